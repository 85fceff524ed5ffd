// Package size converts amounts of storage between units.
//
// It owns the units b, kb, mb, gb, tb and pb as powers of 1024 and the wording
// of a refusal. It never rounds in floating point.
package size

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

var (
	units  = map[string]uint{"b": 0, "kb": 10, "mb": 20, "gb": 30, "tb": 40, "pb": 50}
	number = regexp.MustCompile(`^(\d+\.?\d*|\.\d+)$`)
)

// longest number that is converted: far beyond any disk, and short enough to
// be cheap.
const longest = 64

// Convert returns value, given in the unit from, as a whole number of the unit
// to, rounded up, or down if down is set.
func Convert(value, from, to string, down bool) (int64, error) {
	if value == "" {
		return 0, errors.New("no value given")
	}
	from, to = strings.ToLower(from), strings.ToLower(to)
	shiftFrom, okFrom := units[from]
	shiftTo, okTo := units[to]
	if !okFrom || !okTo {
		return 0, fmt.Errorf("unknown 'from' and/or 'to' units (%s => %s)", from, to)
	}
	amount, ok := new(big.Rat), number.MatchString(value) && len(value) <= longest
	if ok {
		amount, ok = amount.SetString(value)
	}
	if !ok {
		return 0, fmt.Errorf("value '%s' is not a valid, positive number", value)
	}
	numerator := new(big.Int).Lsh(amount.Num(), shiftFrom)
	denominator := new(big.Int).Lsh(amount.Denom(), shiftTo)
	whole, rest := new(big.Int).QuoRem(numerator, denominator, new(big.Int))
	if !down && rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsInt64() {
		return 0, fmt.Errorf("value '%s' is too large", value)
	}
	return whole.Int64(), nil
}
