package pvesm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcpve/agents/tools/cli"
)

// A secret is a setting of some types that goes to a file only root can read.
type secret struct {
	key   string
	types []string
	dir   string // of the file, relative to the tree
	end   string // of its name, after the storage's
	file  bool   // the option names a file, whose content it is about

	// form is the content of the file, and what storage.cfg says instead, "" for
	// nothing.
	form func(text []byte) (content []byte, shown string, err error)
}

// secrets are all there are. Each plugin looks for its own in the same place.
func secrets() []secret {
	return []secret{
		{key: "password", types: []string{"cifs"}, dir: "priv/storage", end: ".pw", form: credentials},
		{key: "password", types: []string{"pbs", "esxi"}, dir: "priv/storage", end: ".pw", form: line},
		{key: "encryption-key", types: []string{"pbs"}, dir: "priv/storage", end: ".enc", file: true, form: encryptionKey},
		{key: "master-pubkey", types: []string{"pbs"}, dir: "priv/storage", end: ".master.pem", file: true, form: publicKey},
		{key: "keyring", types: []string{"rbd"}, dir: "priv/ceph", end: ".keyring", file: true, form: keyring},
		{key: "keyring", types: []string{"cephfs"}, dir: "priv/ceph", end: ".secret", file: true, form: cephKey},
	}
}

func secretOf(kind, key string) (secret, bool) {
	all := secrets()
	i := slices.IndexFunc(all, func(s secret) bool { return s.key == key && slices.Contains(s.types, kind) })
	if i < 0 {
		return secret{}, false
	}
	return all[i], true
}

func (s secret) place(id string) string { return filepath.Join(s.dir, id+s.end) }

// keep writes a secret of a call to its file and returns what storage.cfg says
// of it.
func (p Place) keep(s secret, id string, c *cli.Call) (shown string, err error) {
	var text []byte
	if s.file {
		text, err = os.ReadFile(c.Value(s.key))
	} else {
		var value string
		value, err = c.Secret(s.key, "Enter Password")
		text = []byte(value)
	}
	if err != nil {
		return "", err
	}
	content, shown, err := s.form(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.key, err)
	}
	path := filepath.Join(p.Tree, s.place(id))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return shown, os.WriteFile(path, content, 0o600)
}

// forget removes the file of a secret, of all secrets if key is "".
func (p Place) forget(kind, id, key string) error {
	for _, s := range secrets() {
		if !slices.Contains(s.types, kind) || key != "" && key != s.key {
			continue
		}
		if err := os.Remove(filepath.Join(p.Tree, s.place(id))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// credentials is the form of mount.cifs(8).
func credentials(text []byte) ([]byte, string, error) {
	if bytes.ContainsAny(text, "\n") {
		return nil, "", errors.New("more than one line")
	}
	return fmt.Appendf(nil, "password=%s\n", text), "", nil
}

func line(text []byte) ([]byte, string, error) { return append(text, '\n'), "", nil }

// encryptionKey is a key of the backup client. storage.cfg shows which one it
// is.
func encryptionKey(text []byte) ([]byte, string, error) {
	var key struct {
		Data        string
		Fingerprint string
	}
	if err := json.Unmarshal(text, &key); err != nil || key.Data == "" {
		return nil, "", errors.New("the file is no key of proxmox-backup-client")
	}
	if key.Fingerprint == "" {
		key.Fingerprint = "1"
	}
	return text, key.Fingerprint, nil
}

func publicKey(text []byte) ([]byte, string, error) {
	if !bytes.Contains(text, []byte("-----BEGIN PUBLIC KEY-----")) {
		return nil, "", errors.New("the file is no public key in PEM form")
	}
	return text, "1", nil
}

func keyring(text []byte) ([]byte, string, error) {
	if _, err := keyIn(string(text)); err != nil {
		return nil, "", err
	}
	return text, "", nil
}

// cephKey is the key alone, as the kernel's file system takes it.
func cephKey(text []byte) ([]byte, string, error) {
	key, err := keyIn(string(text))
	return []byte(key + "\n"), "", err
}

// keyIn finds the key in a keyring, or takes the only word there is.
func keyIn(text string) (string, error) {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "key" {
			return strings.TrimSpace(value), nil
		}
	}
	if words := strings.Fields(text); len(words) == 1 {
		return words[0], nil
	}
	return "", errors.New("the file is no keyring of Ceph")
}
