package nflog

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"etcpve/agents/firewall/firewalltest"
)

func TestLoggedPacketsAreWritten(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	for _, command := range []string{
		"ip link set lo up",
		`iptables -A OUTPUT -p tcp --dport 81 -j NFLOG --nflog-prefix :100:6:tap100i0-IN:_policy_DROP:_`,
		`ip6tables -A OUTPUT -p udp --dport 82 -j NFLOG --nflog-prefix foreign`,
	} {
		words := strings.Fields(command)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "_", " ")
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	file := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Logger{file}.Run(ctx) }()
	for _, want := range []struct{ network, address, line string }{
		{"tcp", "127.0.0.1:81", `^100 6 tap100i0-IN \d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4} policy DROP: IN= OUT=lo SRC=127\.0\.0\.1 DST=127\.0\.0\.1 LEN=\d+ TOS=0x00 PREC=0x00 TTL=64 ID=\d+ DF PROTO=TCP SPT=\d+ DPT=81 SEQ=\d+ ACK=0 WINDOW=\d+ SYN`},
		{"udp", "[::1]:82", `^0 - - \S+ \S+ foreign IN= OUT=lo SRC=::1 DST=::1 LEN=49 TC=0 HOPLIMIT=64 FLOWLBL=\d+ PROTO=UDP SPT=\d+ DPT=82 LEN=9`},
	} {
		form := regexp.MustCompile("(?m)" + want.line)
		var content []byte
		for begin := time.Now(); !form.Match(content); time.Sleep(10 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("no line %s in\n%s", want.line, content)
			}
			if c, err := net.Dial(want.network, want.address); err == nil {
				_, _ = c.Write([]byte("?"))
				c.Close()
			}
			content, _ = os.ReadFile(file)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(config(attributePrefix, []byte(":100:6:tap100i0-IN: policy DROP: \x00")))
	packet := append([]byte{0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, make([]byte, 20)...)
	message := config(attributePayload, packet)
	message[4], message[5] = 0, 4
	f.Add(message)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range decode(b) {
			if text := r.line(func(uint32) string { return "x" }); strings.Contains(text, "\n") {
				t.Errorf("more than one line: %q", text)
			}
		}
	})
}
