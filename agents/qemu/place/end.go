package place

import (
	"context"
	"errors"
	"syscall"

	"etcpve/agents/host"
)

// endProcess ends a QEMU with signals, the polite one first.
func endProcess(ctx context.Context, process host.Process, say func(format string, args ...any)) (err error) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !host.Proc.Alive(process) {
			return nil
		}
		say("send %s to QEMU, process %d", signal, process.PID)
		if err := host.Proc.Signal(process, signal); err != nil && !errors.Is(err, host.ErrGone) {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, endWait)
		err = host.Proc.WaitExit(wait, process)
		cancel()
	}
	return err
}
