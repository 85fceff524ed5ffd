package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func start(t *testing.T, path string) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, map[string]Verb{
			"twice": func(_ context.Context, in json.RawMessage) (any, error) {
				var n int
				err := json.Unmarshal(in, &n)
				return 2 * n, err
			},
			"fail": func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("no quorum") },
		}, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestVerbsAreAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "sock")
	start(t, path)
	var got int
	if err := Call(t.Context(), path, "twice", 21, &got); err != nil || got != 42 {
		t.Errorf("got %d, %v", got, err)
	}
	for verb, want := range map[string]string{"fail": "no quorum", "nothing": `unknown request "nothing"`} {
		if err := Call(t.Context(), path, verb, nil, nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", verb, err, want)
		}
	}
	if err := Call(t.Context(), path+"x", "twice", 1, nil); err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "start it") {
		t.Errorf("without a daemon: %v", err)
	}
}

func TestSocketIsForRootAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	start(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a second daemon took the socket of the first")
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as after kill -9
	l.Close()
	start(t, path)
	if err := Call(t.Context(), path, "twice", 1, nil); err != nil {
		t.Error(err)
	}
}

func TestGarbageIsSurvived(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	start(t, path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := Call(t.Context(), path, "twice", 1, nil); err != nil {
		t.Error(err)
	}
}
