package ha

import "fmt"

// A Level is the weight of a log line.
type Level string

// The levels. Email is a notification to the operators.
const (
	Info   Level = "info"
	Notice Level = "notice"
	Warn   Level = "warn"
	Err    Level = "err"
	Email  Level = "email"
)

// A Log takes one line. The texts are those of PVE, word for word: operators
// search for them.
type Log func(level Level, text string)

// Info logs at level info.
func (l Log) Info(format string, a ...any) { l(Info, fmt.Sprintf(format, a...)) }

// Notice logs at level notice.
func (l Log) Notice(format string, a ...any) { l(Notice, fmt.Sprintf(format, a...)) }

// Warn logs at level warn.
func (l Log) Warn(format string, a ...any) { l(Warn, fmt.Sprintf(format, a...)) }

// Err logs at level err.
func (l Log) Err(format string, a ...any) { l(Err, fmt.Sprintf(format, a...)) }

// Email logs at level email.
func (l Log) Email(format string, a ...any) { l(Email, fmt.Sprintf(format, a...)) }
