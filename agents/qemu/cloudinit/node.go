package cloudinit

import (
	"os"
	"strings"
)

// ThisNode takes what the guest does not say from the resolver of the node.
func ThisNode(snippet func(volume string) ([]byte, error)) Node {
	n := Node{Snippet: snippet}
	content, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return n // then the guest has none either
	}
	for line := range strings.Lines(string(content)) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "nameserver":
			n.Nameservers = append(n.Nameservers, words[1])
		case words[0] == "search" || words[0] == "domain":
			n.Search = words[1]
		}
	}
	return n
}
