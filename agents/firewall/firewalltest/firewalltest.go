// Package firewalltest is what tests of the firewall share: a network namespace
// to try rules in, and a node with many guests.
//
// It never touches the machine's own rules, and nothing but tests imports it.
package firewalltest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"etcpve/agents/firewall"
	fw "etcpve/cfs/format/firewall"
)

// InNamespace runs the rest of a test in a process with network and mount
// namespaces of its own. It reports whether this is that process; the caller
// returns if not.
func InNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "FIREWALL_TEST_NAMESPACE"
	if os.Getenv(mark) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	for _, tool := range []string{"iptables", "ip6tables", "ebtables", "ipset", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// Large returns a node with n guests of 20 rules each.
func Large(n int) firewall.Input {
	const on = "[OPTIONS]\nenable: 1\n"
	in := firewall.Input{Cluster: fw.Parse(fw.Cluster, "cluster.fw", on+
		"[ALIASES]\noffice 10.1.0.0/16\n"+
		"[IPSET web]\n10.2.0.0/16\n10.3.0.1\n"+
		"[GROUP base]\nIN SSH(ACCEPT) -source office\nIN Ping(ACCEPT)\n")}
	for i := range n {
		var b strings.Builder
		b.WriteString(on + "[RULES]\nGROUP base\n")
		for j := range 18 {
			fmt.Fprintf(&b, "IN ACCEPT -source 10.%d.%d.0/24 -p tcp -dport %d\n", j, i%256, 1000+j)
		}
		b.WriteString("IN ACCEPT -source +web -p tcp -dport 443\n")
		in.Guests = append(in.Guests, firewall.Guest{
			VMID:  uint32(100 + i),
			Rules: fw.Parse(fw.Guest, fmt.Sprintf("%d.fw", 100+i), b.String()),
			NICs:  []firewall.NIC{{MAC: fmt.Sprintf("BC:24:11:00:%02X:%02X", i/256, i%256), Bridge: "vmbr0", Firewall: true}},
		})
	}
	return in
}
