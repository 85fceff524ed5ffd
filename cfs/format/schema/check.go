package schema

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Check says whether value may be set. The error is an *Error.
func (p *Property) Check(value string) error {
	if err := p.check("", value); err != nil {
		return err
	}
	return nil
}

// check names keys inside a property string below path.
func (p *Property) check(path, value string) *Error {
	if err := checkType(p.Type, value); err != nil {
		return err
	}
	if p.Type == "array" && p.Items != nil {
		return p.Items.check(path, value)
	}
	if err := p.checkLimits(value); err != nil {
		return err
	}
	if p.Format.IsZero() {
		return nil
	}
	if err := p.Format.check(path, value); err != nil {
		return &Error{Message: "invalid format - " + err.Message, Reason: err.Reason, Key: err.Key, Column: err.Column}
	}
	return nil
}

// CheckLimits applies the limits, the enumeration and the pattern of the whole
// value, but neither its type nor its format. The error is an *Error.
func (p *Property) CheckLimits(value string) error {
	if err := p.checkLimits(value); err != nil {
		return err
	}
	return nil
}

func checkType(kind, value string) *Error {
	ok := true
	switch kind {
	case "boolean":
		_, ok = Bool(value)
	case "integer":
		ok = integerForm.MatchString(value)
	case "number":
		ok = numberForm.MatchString(value)
	}
	if !ok {
		return refuse("type check ('%s') failed - got '%s'", kind, value)
	}
	return nil
}

var (
	integerForm = regexp.MustCompile(`^[+-]?\d+$`)
	numberForm  = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)$`)
)

func (p *Property) checkLimits(value string) *Error {
	length := utf8.RuneCountInString(value)
	if p.MaxLength != nil && length > *p.MaxLength {
		return refuse("value may only be %d characters long", *p.MaxLength)
	}
	if p.MinLength != nil && length < *p.MinLength {
		return refuse("value must be at least %d characters long", *p.MinLength)
	}
	if p.Minimum != nil || p.Maximum != nil {
		if err := p.checkRange(value); err != nil {
			return err
		}
	}
	if p.Enum != nil && !slices.Contains(p.Enum, value) {
		return refuse("value '%s' does not have a value in the enumeration '%s'", value, strings.Join(p.Enum, ", "))
	}
	if p.Pattern != "" && !p.matches(value) {
		return refuse("value does not match the regex pattern")
	}
	return nil
}

func (p *Property) checkRange(value string) *Error {
	number, err := strconv.ParseFloat(value, 64)
	switch {
	case err != nil:
		return refuse("type check ('number') failed - got '%s'", value)
	case p.Minimum != nil && number < *p.Minimum:
		return refuse("value must have a minimum value of %s", formatNumber(*p.Minimum))
	case p.Maximum != nil && number > *p.Maximum:
		return refuse("value must have a maximum value of %s", formatNumber(*p.Maximum))
	}
	return nil
}

func formatNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Bool reads a truth value as users may write it.
func Bool(value string) (truth, ok bool) {
	switch strings.ToLower(value) {
	case "1", "on", "yes", "true":
		return true, true
	case "0", "off", "no", "false":
		return false, true
	}
	return false, false
}

// compile reads a Perl pattern, anchored at both ends. The notation (?^i:…) of
// a compiled Perl pattern is rewritten, \0 too. A pattern that is not
// understood accepts everything: refusing a save for our own limit would be
// worse.
func compile(perl string) *regexp.Regexp {
	text := perlFlags.ReplaceAllStringFunc(perl, func(flags string) string {
		if strings.Contains(flags, "i") {
			return "(?i:"
		}
		return "(?:"
	})
	text = strings.ReplaceAll(text, `\0`, `\x00`)
	re, err := regexp.Compile(`^(?:` + text + `)$`)
	if err != nil {
		return anything
	}
	return re
}

// matches applies the pattern; properties written as literals have it
// compiled here each time.
func (p *Property) matches(value string) bool {
	re := p.compiled
	if re == nil {
		re = compile(p.Pattern)
	}
	return re.MatchString(value)
}

var (
	perlFlags = regexp.MustCompile(`\(\?\^[a-z]*:`)
	anything  = regexp.MustCompile(``)
)

// check applies a named format or the keys of a property string.
func (f Format) check(path, value string) *Error {
	if f.Keys != nil {
		_, err := f.Keys.parse(path, value)
		return err
	}
	var refusal *Error
	errors.As(CheckFormat(f.Name, value), &refusal)
	return refusal
}

// Check says whether value has the format. The error is an *Error.
func (f Format) Check(value string) error {
	if err := f.check("", value); err != nil {
		return err
	}
	return nil
}
