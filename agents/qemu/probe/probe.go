// Package probe finds out whether guests really run under KVM on this node.
//
// That /dev/kvm opens, or that firmware runs, proves nothing: there are nodes
// where both work and every Linux guest hangs at boot. So a kernel is booted,
// without a disk, until it panics for the lack of a root file system, which
// ends QEMU. The answer is kept for as long as the node is not booted again.
// The package never starts a guest of the operator's.
package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"etcpve/agents/host"
)

// A Prober asks once per boot of the node.
type Prober struct {
	Binary  string        // QEMU
	Kernel  string        // a Linux kernel; "" takes the newest of /boot
	Cache   string        // file that keeps the answer
	BootID  string        // of the node, which the answer holds for
	Timeout time.Duration // after which a guest hangs; default 10 s

	once   sync.Once
	answer Answer
}

// An Answer says whether KVM can be used, and if not, why.
type Answer struct {
	KVM    bool
	Reason string
}

// reached is what the kernel prints when it has done everything but find a
// disk: it went through long mode, interrupts and timers.
const reached = "VFS: "

// Ask returns the answer, probing on the first call after a boot. Calls at the
// same time wait for one probe.
func (p *Prober) Ask(ctx context.Context) Answer {
	p.once.Do(func() {
		// Several agents of one machine share the cache: the first one probes.
		unlock := p.lock(ctx)
		defer unlock()
		if a, ok := p.cached(); ok {
			p.answer = a
			return
		}
		p.answer = p.boot(ctx)
		if ctx.Err() == nil {
			p.keep(p.answer)
		}
	})
	return p.answer
}

// lock waits until no other process probes. Where no lock can be had, two may
// probe at the same time, which costs time and nothing else.
func (p *Prober) lock(ctx context.Context) (unlock func()) {
	if err := os.MkdirAll(filepath.Dir(p.Cache), 0o755); err != nil {
		return func() {}
	}
	unlock, err := host.Flock(ctx, p.Cache+".lock")
	if err != nil {
		return func() {}
	}
	return unlock
}

func (p *Prober) cached() (Answer, bool) {
	text, err := os.ReadFile(p.Cache)
	lines := strings.SplitN(string(text), "\n", 3)
	if err != nil || len(lines) != 3 || lines[0] != p.BootID {
		return Answer{}, false
	}
	return Answer{KVM: lines[1] == "kvm", Reason: strings.TrimSpace(lines[2])}, true
}

// keep may fail: then the next agent probes again.
func (p *Prober) keep(a Answer) {
	word := "tcg"
	if a.KVM {
		word = "kvm"
	}
	_ = os.WriteFile(p.Cache, []byte(p.BootID+"\n"+word+"\n"+a.Reason+"\n"), 0o600)
}

func (p *Prober) boot(ctx context.Context) Answer {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return Answer{Reason: "the node has no /dev/kvm"}
	}
	kernel := p.Kernel
	if kernel == "" {
		kernels, _ := filepath.Glob("/boot/vmlinuz*")
		if len(kernels) == 0 {
			return Answer{Reason: "no kernel in /boot to probe KVM with"}
		}
		kernel = newest(kernels)
	}
	text, err := p.run(ctx, kernel)
	switch {
	case bytes.Contains(text, []byte(reached)):
		return Answer{KVM: true}
	case errors.Is(err, context.DeadlineExceeded):
		return Answer{Reason: "a Linux guest hangs under KVM on this node"}
	}
	return Answer{Reason: fmt.Sprintf("no guest runs under KVM on this node: %v", err)}
}

func newest(files []string) string {
	return slices.MaxFunc(files, func(a, b string) int {
		i, e1 := os.Stat(a)
		j, e2 := os.Stat(b)
		if e1 != nil || e2 != nil {
			return strings.Compare(a, b)
		}
		return i.ModTime().Compare(j.ModTime())
	})
}

// run boots the kernel and returns what it printed.
func (p *Prober) run(ctx context.Context, kernel string) ([]byte, error) {
	timeout := p.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, p.Binary, "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1")
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if errs.Len() > 0 {
		err = errors.New(strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), err
}
