// Package words cuts a line into the arguments that a shell would make of it.
//
// It owns the rules of quoting. It never runs a shell and never expands anything.
package words

import (
	"errors"
	"strings"
)

// Split cuts a line into words as a shell would: blanks separate, single quotes
// keep everything, double quotes keep everything but \" \\ \$ and \`, a
// backslash keeps the next character. Nothing is expanded.
func Split(line string) (words []string, err error) {
	var word strings.Builder
	started := false
	end := func() {
		if started {
			words = append(words, word.String())
			word.Reset()
			started = false
		}
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n':
			end()
		case '\'', '"':
			n, err := quoted(line[i+1:], c, &word)
			if err != nil {
				return nil, err
			}
			i, started = i+n, true
		case '\\':
			i++
			if i == len(line) {
				return nil, errors.New("a backslash ends the line")
			}
			fallthrough
		default:
			word.WriteByte(line[i])
			started = true
		}
	}
	end()
	return words, nil
}

// quoted copies text up to the closing quote and returns how much it took,
// the quote included.
func quoted(text string, quote byte, word *strings.Builder) (int, error) {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == quote:
			return i + 1, nil
		case quote == '"' && text[i] == '\\' && i+1 < len(text) && strings.IndexByte("\"\\$`", text[i+1]) >= 0:
			i++
		}
		word.WriteByte(text[i])
	}
	return 0, errors.New("a quote is not closed")
}
