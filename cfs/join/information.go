package join

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// maxInformation bounds what is read as join information.
const maxInformation = 16 << 10

// Information is what an operator carries from a member to a new node. Its
// printed form is base64 of JSON with PVE's names; the token is ours: whoever
// presents it before it expires needs no password.
type Information struct {
	Address     string `json:"ipAddress"`   // of a member
	Port        uint16 `json:"port"`        // on which it listens for peers
	Fingerprint string `json:"fingerprint"` // of that member's certificate
	Cluster     string `json:"cluster"`
	Token       string `json:"token,omitempty"`
}

// String returns the printed form.
func (i Information) String() string {
	text, err := json.Marshal(i)
	if err != nil {
		return "" // strings and a number: cannot happen
	}
	return base64.StdEncoding.EncodeToString(text)
}

// ParseInformation reads the printed form; white space around and within it is
// what mail and terminals add.
func ParseInformation(printed string) (i Information, err error) {
	if len(printed) > maxInformation {
		return i, fmt.Errorf("join information: %d bytes, more than %d", len(printed), maxInformation)
	}
	text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(printed), ""))
	if err != nil {
		return i, errors.New("join information: not in base64")
	}
	if err := json.Unmarshal(text, &i); err != nil {
		return i, fmt.Errorf("join information: %w", err)
	}
	if _, err := netip.ParseAddr(i.Address); err != nil {
		return i, fmt.Errorf("join information: ipAddress %q is no address", i.Address)
	}
	if len(strings.Split(i.Fingerprint, ":")) != sha256.Size {
		return i, errors.New("join information: fingerprint missing or malformed")
	}
	return i, nil
}

// NewToken makes a token that the cluster whose secret this is will take until
// the given time. A token is EXPIRY.NONCE.MAC and needs no record.
func NewToken(secret []byte, until time.Time) (string, error) {
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	head := strconv.FormatInt(until.Unix(), 16) + "." + base64.RawURLEncoding.EncodeToString(nonce)
	return head + "." + tokenMAC(secret, head), nil
}

// CheckToken says whether a token was made with secret and has not expired.
func CheckToken(secret []byte, token string, now time.Time) error {
	end := strings.LastIndexByte(token, '.')
	if end < 0 || len(token) > 256 {
		return errors.New("join token: malformed")
	}
	head, mac := token[:end], token[end+1:]
	if !hmac.Equal([]byte(mac), []byte(tokenMAC(secret, head))) {
		return errors.New("join token: not made by this cluster")
	}
	expiry, _, _ := strings.Cut(head, ".")
	until, err := strconv.ParseInt(expiry, 16, 64)
	if err != nil || !now.Before(time.Unix(until, 0)) {
		return errors.New("join token: expired")
	}
	return nil
}

func tokenMAC(secret []byte, head string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("join\x00" + head))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
