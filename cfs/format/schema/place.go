package schema

import (
	"errors"
	"strings"

	"etcpve/cfs/format/text"
)

// Place completes at, the place where a value begins, with the reason for
// which the value was refused and the place inside it.
func Place(err error, at text.Error) text.Error {
	var refusal *Error
	if !errors.As(err, &refusal) {
		at.Message = strings.TrimSpace(err.Error())
		return at
	}
	at.Message = strings.TrimSpace(refusal.Reason)
	if at.Message == "" {
		at.Message = strings.TrimSpace(refusal.Message)
	}
	if refusal.Key != "" && !strings.Contains(at.Message, refusal.Key) {
		at.Message = refusal.Key + ": " + at.Message
	}
	if refusal.Column > 0 && at.Column > 0 {
		at.Column += refusal.Column - 1
	}
	return at
}
