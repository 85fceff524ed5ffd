// Package agentchannel speaks with the agent inside a guest, the QEMU guest
// agent, through the socket of its serial port.
//
// It owns a conversation: it begins with a handshake that skips what an earlier
// one left in the line, and each command has a limit, because the guest may not
// answer, ever. It never takes anything from the guest for more than data.
package agentchannel

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// ErrAbsent says that nothing in the guest answers.
var ErrAbsent = errors.New("QEMU guest agent is not running")

// Limits.
const (
	syncWait    = 3 * time.Second  // for an agent to show up
	commandWait = 10 * time.Second // for an answer
	freezeWait  = 60 * time.Minute // for file systems that are busy writing
	maxAnswer   = 48 << 20         // bytes: what a program in the guest wrote, in base64
)

// delimiter comes before the answer to a handshake, and in no JSON text.
const delimiter = 0xFF

// A Channel is a conversation with one agent.
type Channel struct {
	conn net.Conn
	in   *bufio.Reader
}

// An Error is the agent's refusal of a command.
type Error struct{ Command, Class, Desc string }

func (e *Error) Error() string { return "Agent error: " + e.Desc }

// Dial begins a conversation.
func Dial(ctx context.Context, socket string) (*Channel, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, ErrAbsent
	}
	c := &Channel{conn: conn, in: bufio.NewReader(conn)}
	if err := c.sync(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// Close ends it.
func (c *Channel) Close() error { return c.conn.Close() }

// sync makes the agent drop half a command, and skips answers that somebody else
// did not wait for.
func (c *Channel) sync(ctx context.Context) error {
	id := rand.Uint32N(1 << 31)
	if _, err := c.conn.Write([]byte{delimiter}); err != nil {
		return ErrAbsent
	}
	if err := c.send(ctx, "guest-sync-delimited", map[string]any{"id": id}, syncWait); err != nil {
		return ErrAbsent
	}
	for {
		if _, err := c.in.ReadSlice(delimiter); errors.Is(err, bufio.ErrBufferFull) {
			continue
		} else if err != nil {
			return ErrAbsent
		}
		var answer uint32
		if err := c.receive("guest-sync-delimited", &answer); err == nil && answer == id {
			return nil
		}
	}
}

func (c *Channel) send(ctx context.Context, command string, args any, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(append(line, '\n'))
	return err
}

// receive reads one line.
func (c *Channel) receive(command string, result any) error {
	var line []byte
	for {
		part, err := c.in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("guest agent: %s: %w", command, err)
		}
		if len(line) > maxAnswer {
			return fmt.Errorf("guest agent: %s: more than %d bytes", command, maxAnswer)
		}
	}
	var answer struct {
		Return json.RawMessage
		Error  *struct{ Class, Desc string }
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("guest agent: %s: answer: %w", command, err)
	}
	if answer.Error != nil {
		return &Error{command, answer.Error.Class, answer.Error.Desc}
	}
	if result == nil || answer.Return == nil {
		return nil
	}
	return json.Unmarshal(answer.Return, result)
}

// Run has one command done, such as guest-ping.
func (c *Channel) Run(ctx context.Context, command string, args map[string]any, result any) error {
	limit := commandWait
	if command == "guest-fsfreeze-freeze" || command == "guest-fstrim" {
		limit = freezeWait
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var given any
	if args != nil {
		given = args
	}
	if err := c.send(ctx, command, given, limit); err != nil {
		return fmt.Errorf("guest agent: %s: %w", command, err)
	}
	if silent[command] {
		return nil
	}
	return c.receive(command, result)
}

// silent commands have no answer if they succeed: the guest is gone then.
var silent = map[string]bool{"guest-shutdown": true, "guest-suspend-disk": true, "guest-suspend-ram": true, "guest-suspend-hybrid": true}

// A Result is what came of a program in the guest.
type Result map[string]any

// Exec starts a program in the guest and returns its number there.
func (c *Channel) Exec(ctx context.Context, argv []string, input []byte) (pid int64, err error) {
	args := map[string]any{"path": argv[0], "arg": argv[1:], "capture-output": true}
	if input != nil {
		args["input-data"] = base64.StdEncoding.EncodeToString(input)
	}
	var answer struct{ PID int64 }
	err = c.Run(ctx, "guest-exec", args, &answer)
	return answer.PID, err
}

// ExecStatus looks at a program, with its output as text.
func (c *Channel) ExecStatus(ctx context.Context, pid int64) (Result, error) {
	r := Result{}
	if err := c.Run(ctx, "guest-exec-status", map[string]any{"pid": pid}, &r); err != nil {
		return nil, err
	}
	for _, key := range []string{"out-data", "err-data"} {
		text, ok := r[key].(string)
		if !ok {
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("guest agent: guest-exec-status: %s: %w", key, err)
		}
		r[key] = string(plain)
	}
	for _, key := range []string{"exited", "out-truncated", "err-truncated"} {
		if truth, ok := r[key].(bool); ok {
			r[key] = map[bool]int{true: 1}[truth]
		}
	}
	return r, nil
}

// Password sets the password of a user of the guest.
func (c *Channel) Password(ctx context.Context, user, password string, crypted bool) error {
	return c.Run(ctx, "guest-set-user-password", map[string]any{
		"username": user, "password": base64.StdEncoding.EncodeToString([]byte(password)), "crypted": crypted,
	}, nil)
}
