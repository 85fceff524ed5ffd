package shadow

import (
	"os/exec"
	"strings"
	"testing"
)

// TestHashesAreThoseOfOthers compares with the published examples, and with
// OpenSSL for passwords of many lengths.
func TestHashesAreThoseOfOthers(t *testing.T) {
	if got, want := hash([]byte("Hello world!"), []byte("saltstring")), "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	for _, n := range []int{1, 7, 16, 31, 32, 33, 64, 65, 100} {
		password := strings.Repeat("pässword", 13)[:n]
		out, err := exec.Command("openssl", "passwd", "-5", "-salt", "0123456789abcdef", password).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := hash([]byte(password), []byte("0123456789abcdef")), strings.TrimSpace(string(out)); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
}

func TestHashesAreKnownAsSuch(t *testing.T) {
	for text, want := range map[string]bool{
		Hash("secret"): true, Hash(""): true, "$6$rounds=9$salt$x": true, "$2y$10$abc": true, "secret": false, "$5$secret": false, "$9$a$b": false,
	} {
		if IsHash(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	if first, second := Hash("secret"), Hash("secret"); first == second {
		t.Error("two hashes have one salt")
	}
}
