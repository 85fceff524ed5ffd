package iptables

import (
	"fmt"
	"net"
	"testing"
	"time"

	"etcpve/agents/firewall"
	"etcpve/agents/firewall/firewalltest"
	fw "etcpve/cfs/format/firewall"
)

// TestUpdatesNeverOpenTheFirewall changes rules and sets while somebody who is
// to be dropped keeps sending. The policy is ACCEPT, so that a moment without
// the rule or without the member of the set would let a packet pass.
func TestUpdatesNeverOpenTheFirewall(t *testing.T) {
	if !firewalltest.InNamespace(t) {
		return
	}
	buildNetwork(t)
	sh(t, "ip -n outside addr add 172.16.1.66/24 dev lan")
	sh(t, "ip -n vm100 addr add 172.16.1.100/24 dev lan")
	for name, d := range drivers(t) {
		reach(t, d, variant(0))
		received, stop := bombard(t, "outside", "vm100", "172.16.1.66:0", "172.16.1.100:666")
		for i := 1; i <= 15; i++ {
			if done := reach(t, d, variant(i)); len(done) < 2 {
				t.Errorf("%s: nothing changed: %q", name, done)
			}
		}
		sent := stop()
		if n := received(); n > 0 || sent < 100 {
			t.Errorf("%s: %d of %d packets passed", name, n, sent)
		}
		t.Logf("%s: %d packets during 15 updates", name, sent)
		reach(t, d, &firewall.Ruleset{})
		for deadline := time.Now().Add(2 * time.Minute); ; { // all may pass now
			received, stop = bombard(t, "outside", "vm100", "172.16.1.66:0", "172.16.1.100:666")
			n, sent := received(), stop()
			if n > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: none of %d packets passed when there were no rules", name, sent)
			}
		}
	}
}

// variant is a rule set that drops one source; all else about it differs.
func variant(i int) *firewall.Ruleset {
	in := firewall.Input{
		Cluster: fw.Parse(fw.Cluster, "cluster.fw", fmt.Sprintf("[OPTIONS]\nenable: 1\n[IPSET bad]\n10.0.0.%d\n172.16.1.66\n", i)),
		Guests: []firewall.Guest{{VMID: 100,
			NICs:  []firewall.NIC{{MAC: "0e:0b:38:b8:b3:21", Bridge: "vmbr0", Firewall: true}},
			Rules: fw.Parse(fw.Guest, "100.fw", fmt.Sprintf("[OPTIONS]\nenable: 1\npolicy_in: ACCEPT\n[RULES]\nIN ACCEPT -p tcp -dport %d\nIN DROP -source +bad\n", 1000+i))}},
	}
	r, _ := firewall.Compile(in)
	return r
}

// bombard sends packets until stop, which returns how many; received says how
// many came through.
func bombard(t *testing.T, from, to, source, target string) (received, stop func() int) {
	t.Helper()
	var server, client net.PacketConn
	if err := within(t, to, func() (err error) { server, err = net.ListenPacket("udp", target); return err }); err != nil {
		t.Fatal(err)
	}
	if err := within(t, from, func() (err error) { client, err = net.ListenPacket("udp", source); return err }); err != nil {
		t.Fatal(err)
	}
	address, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-end:
				ended <- n
				return
			case <-time.After(200 * time.Microsecond):
				_, _ = client.WriteTo([]byte("?"), address)
			}
		}
	}()
	stop = func() int {
		close(end)
		return <-ended
	}
	received = func() (n int) {
		defer server.Close()
		defer client.Close()
		_ = server.SetReadDeadline(time.Now().Add(patience))
		for {
			if _, _, err := server.ReadFrom(make([]byte, 1)); err != nil {
				return n
			}
			n++
		}
	}
	return received, stop
}
