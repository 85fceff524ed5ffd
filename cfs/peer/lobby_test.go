package peer

import (
	"net"
	"testing"
	"time"
)

// TestAMemberIsLetInPastACrowd fills the lobby with strangers who say nothing.
func TestAMemberIsLetInPastACrowd(t *testing.T) {
	for round := 1; ; round++ {
		took := pastACrowd(t)
		if took <= handshakeTimeout { // the strangers were all still there
			return
		}
		if round == 5 { // a busy machine does not take that long time and again
			t.Fatalf("a member waited %v, until the strangers had gone", took)
		}
	}
}

// pastACrowd returns how long it takes until a first message of a member has arrived.
func pastACrowd(t *testing.T) time.Duration {
	c, _, p1, _, in2 := pair(t)
	address := seat{cluster: c}.address("n2")
	for range 3 * maxWaiting {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	began := time.Now()
	send(t, p1, "n2", "past the crowd")
	select {
	case <-in2.got:
	case <-time.After(patience):
		t.Fatal("a member was not let in")
	}
	return time.Since(began)
}

func TestTheLobbyHoldsTheNewest(t *testing.T) {
	l := newLobby()
	var conns []net.Conn
	for range maxWaiting + 10 {
		near, far := net.Pipe()
		defer near.Close()
		conns = append(conns, far)
		l.enter(far)
	}
	for _, c := range conns {
		l.leave(c)
		l.leave(c) // twice changes nothing
	}
	for i, c := range conns {
		err := c.SetDeadline(time.Now())
		if closed := err != nil; closed != (i < 10) {
			t.Errorf("connection %d: closed %v", i, closed)
		}
	}
	if len(l.waiting) != 0 {
		t.Errorf("%d wait", len(l.waiting))
	}
}
