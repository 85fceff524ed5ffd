package monitor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// qemu starts a QEMU without a machine and returns its QMP socket.
func qemu(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	socket := filepath.Join(t.TempDir(), "qmp")
	cmd := exec.Command(binary, "-machine", "q35", "-accel", "tcg", "-S", "-nodefaults", "-display", "none",
		"-chardev", "socket,id=qmp,path="+socket+",server=on,wait=off", "-mon", "chardev=qmp,mode=control")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return socket
}

func dial(t *testing.T, socket string) *Monitor {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		m, err := Dial(t.Context(), socket)
		if err == nil {
			t.Cleanup(func() { m.Close() })
			return m
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestRunDecodesReplies(t *testing.T) {
	m := dial(t, qemu(t))
	if m.Version.QEMU.Major < 5 {
		t.Errorf("version %v of the greeting", m.Version)
	}
	var status struct{ Status string }
	if err := m.Run(t.Context(), "query-status", nil, &status); err != nil || status.Status != "prelaunch" {
		t.Errorf("query-status = %+v, %v", status, err)
	}
	err := m.Run(t.Context(), "device_del", map[string]any{"id": "nothing"}, nil)
	var refused *Error
	if !errors.As(err, &refused) || refused.Class != "DeviceNotFound" {
		t.Errorf("device_del of nothing: %v", err)
	}
}

func TestLongRepliesArrive(t *testing.T) {
	m := dial(t, qemu(t))
	var schema []any
	if err := m.Run(t.Context(), "query-qmp-schema", nil, &schema); err != nil || len(schema) < 100 {
		t.Errorf("query-qmp-schema: %d entries, %v", len(schema), err)
	}
}

func TestEventsArrive(t *testing.T) {
	m := dial(t, qemu(t))
	if err := m.Run(t.Context(), "cont", nil, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-m.Events():
		if e.Event != "RESUME" {
			t.Errorf("event %q after cont", e.Event)
		}
	case <-time.After(2 * time.Minute):
		t.Error("no event after cont")
	}
}

func TestEndOfQEMUEndsTheMonitor(t *testing.T) {
	m := dial(t, qemu(t))
	if err := m.Run(t.Context(), "quit", nil, nil); err != nil {
		t.Fatal(err)
	}
	for range m.Events() {
	}
	if err := m.Run(t.Context(), "query-status", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("command after quit: %v", err)
	}
}

func TestSecondClientIsRefused(t *testing.T) {
	socket := qemu(t)
	dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if m, err := Dial(ctx, socket); err == nil {
		m.Close()
		t.Error("a second client got a greeting")
	}
}

// serve answers one client with what script makes of each of its lines.
func serve(t *testing.T, script func(conn net.Conn, line string)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, `{"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 0}, "package": ""}, "capabilities": []}}`)
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			script(conn, lines.Text())
		}
	}()
	return socket
}

func TestHangingCommandEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := dial(t, serve(t, func(conn net.Conn, line string) {
		if strings.Contains(line, "qmp_capabilities") {
			fmt.Fprintln(conn, `{"return": {}, "id": 1}`)
		} else {
			cancel() // the command is under way
		}
	}))
	if err := m.Run(ctx, "query-status", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a command nobody answers: %v", err)
	}
	if err := m.Run(t.Context(), "query-status", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("the command after it: %v", err)
	}
}

func TestUnreadEventsDoNotBlockReplies(t *testing.T) {
	m := dial(t, serve(t, func(conn net.Conn, line string) {
		for n := range 3 * maxEvents {
			fmt.Fprintf(conn, `{"event": "TICK", "data": {"n": %d}, "timestamp": {"seconds": 1, "microseconds": 2}}`+"\n", n)
		}
		_, id, _ := strings.Cut(line, `"id":`)
		fmt.Fprintf(conn, `{"return": {"answer": 42}, "id": %s`+"\n", id)
	}))
	var got struct{ Answer int }
	if err := m.Run(t.Context(), "query-answer", nil, &got); err != nil || got.Answer != 42 {
		t.Errorf("reply behind %d events: %+v, %v", 3*maxEvents, got, err)
	}
	m.Close()
	last, count := Event{}, 0
	for e := range m.Events() {
		last, count = e, count+1
	}
	if last.Data["n"] != float64(3*maxEvents-1) || count != maxEvents {
		t.Errorf("kept %d events, the last %v", count, last.Data)
	}
}
