package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"etcpve/fixtures/loopback"
)

func TestAPeerIsReachedByTheAddressThatAnswers(t *testing.T) {
	c, _, p1, _, in2 := pair(t)
	answering := seat{cluster: c}.address("n2")
	c.set("n2", loopback.Address(1).String()+":5405 "+answering) // nobody listens at the first
	send(t, p1, "n2", "by the second")
	select {
	case got := <-in2.got:
		if got != "n1 1 by the second" {
			t.Errorf("got %q", got)
		}
	case <-time.After(patience):
		t.Fatal("the second address was never tried")
	}
	if got := p1.Ways()["n2"]; got != answering {
		t.Errorf("reached by %q, want %q", got, answering)
	}
}

// TestAStreamTakesTheOthersAlong breaks one of two streams: both must go the other way,
// at once, and messages must arrive again.
func TestAStreamTakesTheOthersAlong(t *testing.T) {
	c, _, p1, _, in2 := pair(t)
	one := seat{cluster: c}.address("n2")
	_, port, err := net.SplitHostPort(one)
	if err != nil {
		t.Fatal(err)
	}
	c.set("n2", one+" localhost:"+port) // two names of one listener
	if _, err := call(t, p1, "n2", 2, []byte("x")); err != nil {
		t.Fatal(err)
	}
	l := p1.link("n2")
	l.way.leave("", one)
	// Some seconds later the streams are back on the preferred address, which answers.
	for deadline := time.Now().Add(patience); l.way.address() != "localhost:"+port; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("reached by %s", l.way.address())
		}
	}
	if _, err := call(t, p1, "n2", 2, []byte("x")); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(patience); len(in2.got) == 0; time.Sleep(10 * time.Millisecond) {
		send(t, p1, "n2", "x") // the one before may have been lost with its stream
		if time.Now().After(deadline) {
			t.Fatal("no message arrived")
		}
	}
}

func TestAWayIsGivenUpForAHintOnlyWhenItIsSettled(t *testing.T) {
	w := &way{}
	addresses := []string{"a:1", "b:1", "c:1"}
	turn := w.begin(t.Context())
	w.use("a:1")
	if w.hint("b:1"); turn.Err() != nil {
		t.Error("a way that was just chosen was given up")
	}
	w.since = time.Now().Add(-2 * settledAfter)
	if w.hint("a:1"); turn.Err() != nil {
		t.Error("the way that is in use was given up")
	}
	if w.hint("b:1"); turn.Err() == nil {
		t.Error("the peer came another way, and this one was kept")
	}
	if got := w.order(addresses); !slices.Equal(got, []string{"b:1", "a:1", "c:1"}) {
		t.Errorf("order %v", got)
	}
	w.leave("", "a:1")
	if got := w.order(addresses); !slices.Equal(got, []string{"b:1", "c:1", "a:1"}) {
		t.Errorf("order %v", got)
	}
}

func TestOnlySilenceMakesAnAddressTheLastChoice(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("read: %w", syscall.ETIMEDOUT): true, syscall.EHOSTUNREACH: true,
		syscall.ECONNRESET: false, syscall.ECONNREFUSED: false, errFrame: false, nil: false,
	} {
		if broken(err) != want {
			t.Errorf("broken(%v) = %v", err, !want)
		}
	}
}

func TestARaceEndsWithAllItsRunners(t *testing.T) {
	began := time.Now()
	_, _, err := race(t.Context(), []string{"slow", "bad"}, true, func(ctx context.Context, address string) (*tls.Conn, error) {
		if address == "bad" {
			return nil, errors.New("refused")
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if took := time.Since(began); err == nil || took > patience {
		t.Errorf("%v after %v", err, took)
	}
}
