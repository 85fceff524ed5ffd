package corosync

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"etcpve/fixtures/golden"
)

const sample = `totem {
  cluster_name: lab
  config_version: 3
  interface {
    linknumber: 0
  }
  future_key: kept
}

nodelist {
  node { name: n2 nodeid: 2
    ring0_addr: fd00::2 }
  node {
    name: n1 # the first
    nodeid: 1
    quorum_votes: 2
    ring0_addr:10.0.0.1
  }
}
`

func define(t *testing.T, content string) (*Section, Definition) {
	t.Helper()
	root, err := Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Define(root)
	if err != nil {
		t.Fatal(err)
	}
	return root, d
}

func TestDefinitionIsRead(t *testing.T) {
	_, got := define(t, sample)
	want := Definition{Cluster: "lab", Version: 3, Nodes: []Node{
		{"n1", 1, 2, map[int]string{0: "10.0.0.1"}, false},
		{"n2", 2, 1, map[int]string{0: "fd00::2"}, false},
	}, Links: []int{0}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestWritingIsSortedAndKeepsUnknownKeys(t *testing.T) {
	root, _ := define(t, sample)
	text := Format(root)
	if !strings.HasPrefix(text, "nodelist {\n  node {\n    name: n1\n    nodeid: 1\n") || !strings.Contains(text, "  future_key: kept\n") {
		t.Errorf("wrote:\n%s", text)
	}
	again, err := Parse(text)
	if err != nil || Format(again) != text {
		t.Errorf("not stable, %v:\n%s", err, text)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	root := New("lab", Node{"n1", 1, 1, map[int]string{0: "10.0.0.1"}, false})
	root.Add(Node{"n2", 2, 1, map[int]string{0: "10.0.0.2"}, false})
	_, d := define(t, Format(root))
	if d.Version != 2 || len(d.Nodes) != 2 || d.Nodes[1].Address() != "10.0.0.2" {
		t.Errorf("definition %+v", d)
	}
	if !root.Remove("n1") || root.Remove("n1") {
		t.Error("a node can be removed once")
	}
	if _, d = define(t, Format(root)); d.Version != 3 || len(d.Nodes) != 1 {
		t.Errorf("definition %+v", d)
	}
	if errors, warnings := Verify(root, nil); len(errors)+len(warnings) != 0 {
		t.Errorf("our own definition: %v %v", errors, warnings)
	}
}

func TestVerifySaysWhatIsWrongWithLinks(t *testing.T) {
	node := func(name, entries string) string { return "  node {\n    name: " + name + "\n" + entries + "  }\n" }
	nodes := func(all ...string) string { return "nodelist {\n" + strings.Join(all, "") + "}\n" }
	const both, first = "    ring0_addr: 10.0.0.1\n    ring3_addr: fd00::1\n", "    ring0_addr: 10.0.0.2\n"
	const safe = "totem {\n  secauth: on\n}\n"
	resolve := func(name string) (string, bool) { return "10.9.9.9", name == "known" }
	for _, c := range []struct {
		text             string
		errors, warnings []string
	}{
		{"", []string{"no nodes found", "no totem found"}, nil},
		{"nodelist {\n}\n" + safe, []string{"no nodes found"}, nil},
		{nodes(node("a", both), node("b", both)) + safe, nil, nil},
		{nodes(node("a", both)) + "totem {\n  crypto_cipher: aes256\n}\n", nil, nil},
		{nodes(node("a", both)) + "totem {\n  crypto_cipher: none\n}\n", nil,
			[]string{"warning: authentication/encryption is not explicitly enabled (secauth / crypto_cipher / crypto_hash)"}},
		{nodes(node("b", both), node("a", first)) + safe, []string{"node 'a' is missing link 3, which is configured on other nodes"}, nil},
		{nodes(node("a", both)) + "totem {\n  secauth: on\n  interface {\n    linknumber: 0\n  }\n  interface {\n    linknumber: 1\n  }\n}\n",
			[]string{"node 'a' is missing address for interface number 1", "node 'a' has 'ring3_addr', but there is no interface number 3 configured"}, nil},
		{nodes(node("a", "    ring0_addr: known\n"), node("b", "    ring0_addr: lost\n")) + safe, nil, []string{
			"warning: ring0_addr 'known' for node 'a' resolves to '10.9.9.9' - consider replacing it with the currently resolved IP address for stability",
			"warning: unable to resolve ring0_addr 'lost' for node 'b' to an IP address according to Corosync's resolve strategy - cluster could fail on restart!"}},
	} {
		root, err := Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if errors, warnings := verify(root, resolve); !slices.Equal(errors, c.errors) || !slices.Equal(warnings, c.warnings) {
			t.Errorf("%s: errors %q, warnings %q; want %q, %q", c.text, errors, warnings, c.errors, c.warnings)
		}
	}
}

// verify returns what Verify says in the words in which PVE prints it.
func verify(root *Section, resolve func(string) (string, bool)) (errors, warnings []string) {
	e, w := Verify(root, resolve)
	for _, found := range e {
		errors = append(errors, found.Message)
	}
	for _, found := range w {
		warnings = append(warnings, "warning: "+found.Message)
	}
	return errors, warnings
}

func TestVerifySaysWhere(t *testing.T) {
	root, err := Parse("totem {\n  interface {\n    linknumber: 0\n  }\n}\nnodelist {\n  node {\n    name: a\n    ring0_addr: here\n    ring1_addr: 10.0.1.1\n  }\n  node {\n    name: b\n  ring5_addr: fd00::1\n  }\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	errors, warnings := Verify(root, func(string) (string, bool) { return "", false })
	var got []string
	for _, e := range slices.Concat(errors, warnings) {
		where, _, _ := strings.Cut(e.Error(), ": node '")
		got = append(got, where)
	}
	want := []string{"corosync.conf:12: node b: ring0_addr", "corosync.conf:10: node a: ring1_addr", "corosync.conf:14: node b: ring5_addr",
		"corosync.conf:1: totem: secauth: authentication/encryption is not explicitly enabled (secauth / crypto_cipher / crypto_hash)"}
	if len(got) != 5 || !slices.Equal(got[:4], want) || !strings.HasPrefix(got[4], "corosync.conf:9: node a: ring0_addr: unable to resolve") {
		t.Errorf("got %q", got)
	}
}

func TestAnAddressIsPickedAsCorosyncDoes(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		version string
		list    []netip.Addr
		want    string
	}{
		{"", []netip.Addr{four, six}, "2001:db8::1"}, {"ipv6-4", []netip.Addr{four}, "192.0.2.1"}, {"ipv4-6", []netip.Addr{six, four}, "192.0.2.1"},
		{"ipv4-6", []netip.Addr{six}, "2001:db8::1"}, {"ipv4", []netip.Addr{six}, ""}, {"ipv6", []netip.Addr{four}, ""}, {"ipv4", []netip.Addr{netip.AddrFrom16(four.As16())}, "192.0.2.1"},
	} {
		got, ok := Pick(c.list, c.version)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s of %v: %v", c.version, c.list, got)
		}
	}
}

func TestAWitnessComesAndGoes(t *testing.T) {
	root := New("lab", Node{"n1", 1, 1, map[int]string{0: "10.0.0.1"}, false})
	root.SetWitness(Node{Name: Witness, ID: 7, Votes: 1, Addresses: map[int]string{0: "10.0.0.9"}})
	text := Format(root)
	if !strings.Contains(text, "quorum {\n  device {\n    model: net\n    net {\n      algorithm: ffsplit\n      host: 10.0.0.9\n      tls: on\n    }\n    nodeid: 7\n    votes: 1\n  }\n") {
		t.Error(text)
	}
	_, d := define(t, text)
	if w, ok := d.Node(Witness); !ok || !w.Witness || w.ID != 7 || w.Address() != "10.0.0.9" || d.Version != 2 {
		t.Errorf("definition %+v", d)
	}
	if !root.Remove(Witness) || root.Remove(Witness) {
		t.Error("a witness can be removed once")
	}
	_, d = define(t, strings.Replace(text, "    nodeid: 7\n", "", 1))
	if len(d.Nodes) != 1 {
		t.Errorf("a qnetd of corosync became a member: %+v", d)
	}
	for old, mistake := range map[string][2]string{
		"nodeid: 7":    {"nodeid: 1", "device: nodeid: 1 is also the id of node n1"},
		"host: 10":     {"host_: 10", "device: model: must be net, with a section net that names the host"},
		"    votes: 1": {"    votes: x", `device: votes: "x" is no number from 0 on`},
		"name: n1":     {"name: qdevice", "node qdevice: name: is that of the quorum device"},
		"10.0.0.9":     {"10.0.0.1", "device: ring0_addr: 10.0.0.1 is also an address of node n1"},
	} {
		root, err := Parse(strings.Replace(text, old, mistake[0], 1))
		if err == nil {
			_, err = Define(root)
		}
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(mistake[1], "device: ")) {
			t.Errorf("%s: %v, want %s", mistake[0], err, mistake[1])
		}
	}
}

func TestMistakesAreNamedWithTheirPlace(t *testing.T) {
	for content, want := range map[string]string{
		"totem {":                             "corosync.conf:1:1: totem: section is not closed",
		"}":                                   `corosync.conf:1:1: unexpected "}"`,
		"totem {\n  config_version\n}":        `corosync.conf:2:3: expected "key: value" or "section {", got "config_version"`,
		"totem { a: }":                        "corosync.conf:1:9: a: value is missing",
		"totem {\n a: 1\n a: 2\n}":            "corosync.conf:3:2: a: given twice",
		"totem { }\ntotem { }":                "corosync.conf:2:1: totem: section given twice",
		"nodelist { node { } }":               "corosync.conf:1:12: node: has neither name nor ring0_addr",
		"nodelist { }":                        "corosync.conf: totem: section is missing",
		"totem {\n config_version: x }":       `corosync.conf:2: totem: config_version: "x" is no number from 0 on`,
		"totem { config_version: 1 }":         "corosync.conf: nodelist: no node in it",
		one("n1", "0", "a") + "}":             "corosync.conf:3: node n1: nodeid: must not be 0",
		one("n1", "1", "a") + one2("n2", "1"): "corosync.conf:8: node n2: nodeid: 1 is also the id of node n1",
		one("n1", "1", "fd00::1") + one3("n2", "fd00:0:0::1"): "corosync.conf:9: node n2: ring0_addr: fd00::1 is also an address of node n1",
		one("n1", "1", "a") + one3("n2", "a"):                 "corosync.conf:9: node n2: ring0_addr: a is also an address of node n1",
		strings.Repeat("a { ", maxDepth+2):                    "corosync.conf:1:65: sections nested too deeply",
		"totem { config_version: 1 }\nx: { y }":               "corosync.conf:2:1: x: value is missing",
	} {
		root, err := Parse(content)
		if err == nil {
			_, err = Define(root)
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", content, err, want)
		}
	}
}

// one begins a definition with one node; one2 and one3 add another to it.
func one(name, id, address string) string {
	return "totem { config_version: 1 }\nnodelist { node {\nnodeid: " + id + "\nname: " + name + "\nring0_addr: " + address + "\n}"
}

func one2(name, id string) string {
	return "\nnode {\nnodeid: " + id + "\nname: " + name + "\nring0_addr: b } }"
}

func one3(name, address string) string {
	return "\nnode {\nnodeid: 2\nring0_addr: " + address + "\nname: " + name + "\n}}"
}

// tree turns a section into the structure of the golden data.
func tree(s *Section) map[string]any {
	out := map[string]any{}
	for k, v := range s.Entries {
		out[k] = v
	}
	for k, sub := range s.Sections {
		out[k] = tree(sub)
	}
	for k, blocks := range s.Repeated {
		all := map[string]any{}
		for name, block := range blocks {
			all[name] = tree(block)
		}
		out[k] = all
	}
	return out
}

func TestGolden(t *testing.T) {
	dir := golden.Dir(t, "corosync")
	files, err := filepath.Glob(filepath.Join(dir, "*.expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]string{}
	if text, err := os.ReadFile(filepath.Join(dir, "hosts.json")); err == nil {
		if err := json.Unmarshal(text, &hosts); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		golden.Case(t, "corosync", filepath.Base(file), func(t *testing.T) { goldenCase(t, dir, file, hosts) })
	}
}

func goldenCase(t *testing.T, dir, file string, hosts map[string]string) {
	var want struct {
		Config, Digest string
		Parsed         map[string]any
		Same           bool `json:"rewritten_equals_input"`
		Verify         struct{ Errors, Warnings []string }
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	input, err := os.ReadFile(filepath.Join(dir, want.Config))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha1.Sum(input); hex.EncodeToString(sum[:]) != want.Digest {
		t.Errorf("digest %x", sum)
	}
	root, err := Parse(string(input))
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(root); !reflect.DeepEqual(got, want.Parsed) {
		t.Errorf("parsed %v\nwant %v", got, want.Parsed)
	}
	blank := func(s string) string { return strings.ReplaceAll(s, "\n\n", "\n") }
	if got := Format(root); (blank(got) == blank(string(input))) != want.Same {
		t.Errorf("wrote:\n%s", got)
	}
	errors, warnings := verify(root, func(name string) (string, bool) { ip, ok := hosts[name]; return ip, ok })
	if !slices.Equal(errors, want.Verify.Errors) || !slices.Equal(warnings, want.Verify.Warnings) {
		t.Errorf("errors %q\nwarnings %q", errors, warnings)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("a { b: c d { } }")
	f.Fuzz(func(t *testing.T, content string) {
		root, err := Parse(content)
		if err != nil {
			return
		}
		text := Format(root)
		again, err := Parse(text)
		if err != nil || Format(again) != text {
			t.Errorf("%q became %q, %v", content, text, err)
		}
	})
}

func TestMostVoters(t *testing.T) {
	for text, want := range map[string]struct {
		n   int
		err string
	}{
		"":              {0, ""},
		"max_voters: 1": {1, ""},
		"max_voters: 7": {7, ""},
		"max_voters: 0": {0, "corosync.conf:8: quorum: max_voters: must be 1 to 7"},
		"max_voters: 8": {0, "corosync.conf:8: quorum: max_voters: must be 1 to 7"},
		"max_voters: x": {0, `corosync.conf:8: quorum: max_voters: "x" is no number from 0 on`},
	} {
		root, err := Parse(one("n1", "1", "10.0.0.1") + "}\nquorum {\n" + text + "\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		d, err := Define(root)
		if got := fmt.Sprint(err); want.err == "" && err != nil || want.err != "" && got != want.err {
			t.Errorf("%q: %v, want %q", text, err, want.err)
		}
		if err == nil && d.MaxVoters != want.n {
			t.Errorf("%q: %d voters, want %d", text, d.MaxVoters, want.n)
		}
	}
}

// TestWhiteSpaceMeansNothing writes one definition in several ways.
func TestWhiteSpaceMeansNothing(t *testing.T) {
	const want = "totem {\n  interface {\n    linknumber: 0\n  }\n  version: 2\n}\n\n"
	for _, in := range []string{
		"totem{version:2 interface{linknumber:0}}", "totem\n{\nversion\n:\n2\ninterface\n{\nlinknumber:\n0\n}\n}\n",
		"totem {\r\n\tversion : 2\r\n\tinterface { linknumber :0 }\r\n}\r\n", "# a\ntotem { # b\nversion: 2 # c: d {\ninterface { linknumber: 0 }#}\n}",
	} {
		root, err := Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := Format(root); got != want {
			t.Errorf("%q: wrote %q", in, got)
		}
	}
}

func TestTheLinkOfTheHighestPriorityIsPreferred(t *testing.T) {
	nodes := "nodelist { node { name: n1 nodeid: 1 ring0_addr: a0 ring1_addr: a1 ring3_addr: a3 } node { name: n2 nodeid: 2 ring0_addr: b0 ring3_addr: b3 } }\n"
	for totem, want := range map[string]string{
		"": "b0 b3|a0 a1 a3",
		"interface { linknumber: 1 knet_link_priority: 5 } interface { ringnumber: 3 knet_link_priority: 200 }": "b3 b0|a3 a1 a0",
		"interface { linknumber: 0 } interface { linknumber: 7 knet_link_priority: 9 }":                         "b0 b3|a0 a1 a3",
		"interface { linknumber: 3 knet_link_priority: 256 }":                                                   "interface 3: knet_link_priority: must be 0 to 255",
		"interface { linknumber: 0 knet_link_priority: high }":                                                  "is no number",
	} {
		root, err := Parse("totem { cluster_name: lab config_version: 1 " + totem + " }\n" + nodes)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Define(root)
		got := fmt.Sprint(err)
		if err == nil {
			n1, _ := d.Node("n1")
			n2, _ := d.Node("n2")
			got = strings.Join(d.Addresses(n2), " ") + "|" + strings.Join(d.Addresses(n1), " ")
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", totem, got, want)
		}
	}
}

func TestVotesCountWhenTheyDecide(t *testing.T) {
	for text, want := range map[string]string{
		"1 1 1": "- [1 1 1]", "2 1": "n1 [2 1]", "1 1": "- [1 1]", "2 1 1": "- [1 1 1]", "1 5 1 2": "n2 [1 5 1 2]", "0 1": "- [0 1]", "3 0 0": "n1 [3 0 0]", "4294967295 4294967295": "- [1 1]",
	} {
		d := Definition{}
		for i, v := range strings.Fields(text) {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			d.Nodes = append(d.Nodes, Node{Name: fmt.Sprint("n", i+1), Votes: uint32(n)})
		}
		decider := "-"
		if n, ok := d.Decider(); ok {
			decider = n.Name
		}
		var counted []uint32
		for _, n := range d.Nodes {
			counted = append(counted, d.Counted(n))
		}
		if got := fmt.Sprint(decider, " ", counted); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
