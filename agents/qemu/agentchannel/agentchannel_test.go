package agentchannel

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// An agent speaks the guest agent's side of the protocol on a socket. Before its
// first words it sends what an earlier conversation did not read.
func newAgent(t *testing.T, answer func(command string, args map[string]any) string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "qga")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn, answer)
		}
	}()
	return socket
}

func serve(conn net.Conn, answer func(string, map[string]any) string) {
	defer conn.Close()
	fmt.Fprint(conn, `{"return": {"stale": "`+strings.Repeat("x", 10000)+`"}}`+"\n")
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var r struct {
			Execute   string
			Arguments map[string]any
		}
		// The agent's parser starts anew at the delimiter.
		if err := json.Unmarshal(bytes.TrimLeftFunc(line, func(r rune) bool { return r == utf8.RuneError }), &r); err != nil {
			fmt.Fprintln(conn, `{"error": {"class": "GenericError", "desc": "Invalid JSON"}}`)
			continue
		}
		if r.Execute == "guest-sync-delimited" {
			fmt.Fprintf(conn, "\xff{\"return\": %v}\n", int64(r.Arguments["id"].(float64)))
			continue
		}
		fmt.Fprintln(conn, answer(r.Execute, r.Arguments))
	}
}

func TestConversation(t *testing.T) {
	exited := false
	socket := newAgent(t, func(command string, args map[string]any) string {
		switch command {
		case "guest-ping":
			return `{"return": {}}`
		case "guest-exec":
			input, _ := base64.StdEncoding.DecodeString(args["input-data"].(string))
			if args["path"] != "/bin/cat" || fmt.Sprint(args["arg"]) != "[-A -]" || string(input) != "in\x00put" || args["capture-output"] != true {
				return `{"error": {"class": "GenericError", "desc": "unexpected"}}`
			}
			return `{"return": {"pid": 42}}`
		case "guest-exec-status":
			if !exited {
				exited = true
				return `{"return": {"exited": false}}`
			}
			return `{"return": {"exited": true, "exitcode": 3, "out-data": "` + base64.StdEncoding.EncodeToString([]byte("said")) + `"}}`
		case "guest-set-user-password":
			if args["username"] == "root" && args["password"] == "c2VjcmV0" && args["crypted"] == true {
				return `{"return": {}}`
			}
		}
		return `{"error": {"class": "CommandNotFound", "desc": "The command ` + command + ` has not been found"}}`
	})
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Run(t.Context(), "guest-ping", nil, nil); err != nil {
		t.Error(err)
	}
	var refused *Error
	if err := c.Run(t.Context(), "guest-dance", nil, nil); !errors.As(err, &refused) || refused.Class != "CommandNotFound" {
		t.Errorf("%v", err)
	}
	pid, err := c.Exec(t.Context(), []string{"/bin/cat", "-A", "-"}, []byte("in\x00put"))
	if pid != 42 || err != nil {
		t.Fatal(pid, err)
	}
	for _, want := range []string{"map[exited:0]", "map[exitcode:3 exited:1 out-data:said]"} {
		if r, err := c.ExecStatus(t.Context(), pid); err != nil || fmt.Sprint(map[string]any(r)) != want {
			t.Errorf("%v, %v; want %s", r, err, want)
		}
	}
	if err := c.Password(t.Context(), "root", "secret", true); err != nil {
		t.Error(err)
	}
}

func TestSilenceIsNoAgent(t *testing.T) {
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrAbsent) {
		t.Errorf("%v", err)
	}
	socket := filepath.Join(t.TempDir(), "mute")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	if _, err := Dial(t.Context(), socket); !errors.Is(err, ErrAbsent) || time.Since(began) > syncWait+10*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
