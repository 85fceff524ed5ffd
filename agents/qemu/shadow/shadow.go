// Package shadow makes of a password what a guest's /etc/shadow has of it, so that
// a configuration, which many can read, never has the password itself.
//
// It owns the scheme, SHA-256 crypt with the usual 5,000 rounds and a random salt,
// which every guest's C library knows. It never checks a password.
package shadow

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"regexp"
)

// hashed is what is a hash already, of any of the schemes in use.
var hashed = regexp.MustCompile(`^\$(?:[156]|2[ay])(?:\$.+){2}`)

// IsHash reports whether a text is a hash and no password.
func IsHash(text string) bool { return hashed.MatchString(text) }

const (
	rounds     = 5000
	saltLength = 16
	alphabet   = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// Hash returns the hash of a password.
func Hash(password string) string {
	salt := make([]byte, saltLength)
	rand.Read(salt)
	for i := range salt {
		salt[i] = alphabet[salt[i]%64]
	}
	return hash([]byte(password), salt)
}

// hash is SHA-256 crypt.
func hash(key, salt []byte) string {
	inner := sum(key, salt, key)
	first := append(bytes.Clone(key), salt...)
	first = append(first, stretched(inner, len(key))...)
	for n := len(key); n > 0; n >>= 1 {
		if n&1 != 0 {
			first = append(first, inner...)
		} else {
			first = append(first, key...)
		}
	}
	now := sum(first)
	p := stretched(sum(bytes.Repeat(key, len(key))), len(key))
	s := stretched(sum(bytes.Repeat(salt, 16+int(now[0]))), len(salt))
	for i := range rounds {
		before, after := now, p
		if i%2 != 0 {
			before, after = p, now
		}
		parts := [][]byte{before}
		if i%3 != 0 {
			parts = append(parts, s)
		}
		if i%7 != 0 {
			parts = append(parts, p)
		}
		now = sum(append(parts, after)...)
	}
	return "$5$" + string(salt) + "$" + text(now)
}

func sum(parts ...[]byte) []byte {
	h := sha256.Sum256(bytes.Join(parts, nil))
	return h[:]
}

// stretched repeats bytes up to a length.
func stretched(part []byte, length int) []byte {
	return bytes.Repeat(part, length/len(part)+1)[:length]
}

// text writes the bytes of a sum in the order of the scheme, three to four letters.
func text(sum []byte) string {
	var out []byte
	letters := func(high, middle, low byte, n int) {
		for word := uint32(high)<<16 | uint32(middle)<<8 | uint32(low); n > 0; n-- {
			out = append(out, alphabet[word&0x3f])
			word >>= 6
		}
	}
	a, b, c := 0, 10, 20
	for range 10 {
		letters(sum[a], sum[b], sum[c], 4)
		a, b, c = (c+1)%30, (a+1)%30, (b+1)%30
	}
	letters(0, sum[31], sum[30], 3)
	return string(out)
}
