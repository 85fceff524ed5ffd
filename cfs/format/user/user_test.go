package user

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"etcpve/cfs/format/text"
	"etcpve/fixtures/golden"
)

const sample = `# people
user:bob@corp:0:1700000000:Bob:B%3A:b@example.org:a %25:k1:
user:alice@pve:1
token:alice@pve!ci:0:1:deploys:
group:ops:bob@corp alice@pve;:the team:
pool:web:front:101,100:local,nas:
pool:web/db:::
role:Op:VM.PowerMgmt,VM.Audit:
acl:1:/pool//web/:@ops,alice@pve!ci:Op:
acl:0:/:bob@corp,root@pam:PVEAuditor,Op:
`

func TestDocumentKeepsEveryByte(t *testing.T) {
	for _, content := range []string{"", sample, "user:a@b\r\n\nx", ":::"} {
		if got := ParseDocument(content).String(); got != content {
			t.Errorf("%q; want %q", got, content)
		}
	}
}

func TestDocumentEditsTouchOneLine(t *testing.T) {
	d := ParseDocument(sample)
	d.Set("user", "alice@pve", "0", "0", "", "", "", "", "")
	d.Set("group", "new", "alice@pve", "")
	d.Remove("role", func(r Record) bool { return r.Field(0) == "Op" })
	want := strings.Replace(sample, "user:alice@pve:1\n", "user:alice@pve:0:0::::::\n", 1)
	want = strings.Replace(want, "the team:\n", "the team:\ngroup:new:alice@pve::\n", 1)
	want = strings.Replace(want, "role:Op:VM.PowerMgmt,VM.Audit:\n", "", 1)
	if got := d.String(); got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

func TestParseAndWriteAreCanonical(t *testing.T) {
	c := Parse(sample)
	if len(c.Warnings) > 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	want := `user:alice@pve:1:0::::::
token:alice@pve!ci:0:1:deploys:
user:bob@corp:0:1700000000:Bob:B%3A:b@example.org:a %25:k1:
user:root@pam:1:0::::::

group:ops:alice@pve,bob@corp:the team:

pool:web:front:100,101:local,nas:
pool:web/db::::

role:Op:VM.Audit,VM.PowerMgmt:

acl:0:/:bob@corp:Op,PVEAuditor:
acl:1:/pool/web:@ops,alice@pve!ci:Op:
`
	if got := Write(c); got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if p := c.Pools["web/db"]; p.Parent != "web" || !c.Pools["web"].Pools["web/db"] || c.VMs[100] != "web" {
		t.Errorf("pools %+v", c.Pools)
	}
	if again := Write(Parse(want)); again != want {
		t.Errorf("read again: %s", again)
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		content string
		column  int
		reason  string
	}{
		{"people:a\n", 1, "expected a line of kind"},
		{"user:alice:1:0:\n", 6, "name@realm"},
		{"user:a@pve:1:soon:\n", 14, "expiry"},
		{"token:a@pve:\n", 7, "name@realm!token"},
		{"token:root@pam!t1:x:\n", 19, "expiry"},
		{"group:a b::\n", 7, "group name"},
		{"role:a/b:\n", 6, "role name"},
		{"pool:a/b/c/d:\n", 6, "pool name"},
		{"pool:a::x1:\n", 9, "not a VMID"},
		{"pool:a::1:-:\n", 11, "not a storage"},
		{"pool:a::1:\npool:b::1:\n", 9, "in pool 'a' already"},
		{"acl:1:/x y:root@pam:NoAccess:\n", 7, "path"},
		{"acl:1:/:root:NoAccess:\n", 9, "expected users"},
		{"acl:1:/:root@pam:a/b:\n", 18, "not a role name"},
		{"group:a::\ngroup:a::\n", 7, "line 1 already"},
	} {
		r := NewReader("f")
		for _, l := range text.Lines(c.content) {
			r.Line(l)
		}
		refused, _ := r.End()
		if len(refused) != 1 || refused[0].Column != c.column || !strings.Contains(refused[0].Message, c.reason) {
			t.Errorf("%q: %+v; want column %d: %s", c.content, refused, c.column, c.reason)
		}
	}
}

func TestWhatMayBeRightLaterIsOnlyDoubtful(t *testing.T) {
	r := NewReader("f")
	for _, l := range text.Lines("group:a:gone@pve::\nrole:R:VM.Future:\nacl:1:/:@none,gone@pve,root@pam!gone:R:\nacl:1:/:root@pam:Gone:\ntoken:gone@pve!tok::\n") {
		r.Line(l)
	}
	if refused, warnings := r.End(); len(refused) > 0 || len(warnings) != 7 {
		t.Errorf("refused %v, warnings %v", refused, warnings)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, content string) {
		if ParseDocument(content).String() != content {
			t.Fatal("bytes were lost")
		}
		once := Write(Parse(content))
		if again := Write(Parse(once)); again != once {
			t.Fatalf("%q is read back as %q", once, again)
		}
	})
}

// tree is a Config in the shape of golden data: truth values are numbers,
// empty parts are left out.
func tree(c *Config) map[string]any {
	users, groups, roles, pools, vms := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	for name, u := range c.Users {
		tokens := map[string]any{}
		for id, t := range u.Tokens {
			tokens[id] = prune(map[string]any{"comment": t.Comment, "expire!": t.Expire, "privsep!": number(t.Privsep)})
		}
		users[name] = prune(map[string]any{"enable!": number(u.Enable), "expire!": u.Expire, "firstname": u.First, "lastname": u.Last,
			"email": u.Email, "comment": u.Comment, "keys": u.Keys, "groups": set(u.Groups), "tokens": tokens})
	}
	for name, g := range c.Groups {
		groups[name] = prune(map[string]any{"comment": g.Comment, "users!": set(g.Users)})
	}
	for name, privileges := range c.Roles {
		roles[name] = append([]string{}, slices.Sorted(maps.Keys(privileges))...)
	}
	for name, p := range c.Pools {
		members := map[string]any{}
		for vmid := range p.VMs {
			members[strconv.Itoa(vmid)] = 1
		}
		pools[name] = prune(map[string]any{"comment": p.Comment, "parent": p.Parent, "pools!": set(p.Pools), "storage!": set(p.Storages), "vms!": members})
	}
	for vmid, pool := range c.VMs {
		vms[strconv.Itoa(vmid)] = pool
	}
	return map[string]any{"users": users, "groups": groups, "custom_roles": roles, "pools": pools, "vms": vms, "acl_root": nodeTree(c.ACL)}
}

func nodeTree(n *Node) map[string]any {
	children := map[string]any{}
	for name, child := range n.Children {
		children[name] = nodeTree(child)
	}
	return prune(map[string]any{"children": children, "users": roles(n.Users), "groups": roles(n.Groups), "tokens": roles(n.Tokens)})
}

func roles(list map[string]map[string]bool) map[string]any {
	all := map[string]any{}
	for who, roles := range list {
		one := map[string]any{}
		for role, propagate := range roles {
			one[role] = number(propagate)
		}
		all[who] = one
	}
	return all
}

func set(names map[string]bool) map[string]any {
	all := map[string]any{}
	for name := range names {
		all[name] = 1
	}
	return all
}

func number(truth bool) int {
	if truth {
		return 1
	}
	return 0
}

// prune leaves out what is empty, except where the key ends with "!".
func prune(m map[string]any) map[string]any {
	out := map[string]any{}
	for key, v := range m {
		name, keep := strings.CutSuffix(key, "!")
		if text := fmt.Sprint(v); keep || text != "" && text != "map[]" && text != "<nil>" {
			out[name] = v
		}
	}
	return out
}

// pruneAll drops nulls and empty texts, which mean the same as absence.
func pruneAll(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for key, child := range m {
		if child == nil || child == "" {
			delete(m, key)
		} else {
			m[key] = pruneAll(child)
		}
	}
	return m
}

func TestGoldenUserConfig(t *testing.T) {
	type testCase struct {
		Name, Rewritten string
		Text            *string // absent where there is only a structure to write
		Warnings        []string
		Parsed          map[string]any
	}
	for _, c := range golden.Cases[testCase](t, "access", "user_cfg") {
		golden.Case(t, "access", c.Name, func(t *testing.T) {
			if c.Text == nil {
				if written := Write(&Config{ACL: newNode()}); len(c.Parsed) == 0 && written != c.Rewritten {
					t.Errorf("rewritten\n%s; want\n%s", written, c.Rewritten)
				}
				return
			}
			got := Parse(*c.Text)
			gotText, _ := json.Marshal(tree(got))
			wantText, _ := json.Marshal(pruneAll(c.Parsed))
			if string(gotText) != string(wantText) {
				t.Errorf("parsed\n%s; want\n%s", gotText, wantText)
			}
			if !slices.Equal(trimmed(got.Warnings), trimmed(c.Warnings)) {
				t.Errorf("warnings %q; want %q", got.Warnings, c.Warnings)
			}
			if written := Write(got); written != c.Rewritten {
				t.Errorf("rewritten\n%s; want\n%s", written, c.Rewritten)
			}
		})
	}
}

func trimmed(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, strings.TrimSpace(s))
	}
	return out
}

func TestGoldenBuiltinRoles(t *testing.T) {
	dir := golden.Dir(t, "access")
	want := readRoles(t, dir)
	for role, privileges := range want {
		if got, ok := Builtin(role); !ok || !slices.Equal(got, privileges) {
			t.Errorf("%s: %v; want %v", role, got, privileges)
		}
	}
	if len(want) != len(builtin) {
		t.Errorf("%d roles; want %d", len(builtin), len(want))
	}
}

func readRoles(t *testing.T, dir string) map[string][]string {
	content, err := os.ReadFile(filepath.Join(dir, "builtin_roles.json"))
	if err != nil {
		t.Skipf("golden data not on this machine: %v", err)
	}
	roles := map[string][]string{}
	if err := json.Unmarshal(content, &roles); err != nil {
		t.Fatal(err)
	}
	return roles
}
