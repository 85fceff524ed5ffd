package user

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/text"
)

// A Reader takes user.cfg line by line, makes a Config of it, and says what a
// save should be refused for. What another node's newer release may know is
// only warned of.
type Reader struct {
	c    *Config
	file string
	seen map[string]int // line of each kind and name

	refused, doubtful []text.Error
}

// NewReader returns a reader for the file of that name.
func NewReader(file string) *Reader {
	return &Reader{c: New(), file: file, seen: map[string]int{}}
}

// Config returns what the lines so far mean.
func (r *Reader) Config() *Config { return r.c }

// Problems returns what is wrong with the lines so far.
func (r *Reader) Problems() []text.Error { return r.refused }

// End returns everything that is wrong, and what is only doubtful.
func (r *Reader) End() (refused, warnings []text.Error) { return r.refused, r.doubtful }

var (
	groupForm   = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	userForm    = regexp.MustCompile(`^[^\s:/@]+(@[^\s:/@]+)*@[A-Za-z][A-Za-z0-9._-]+$`)
	tokenForm   = regexp.MustCompile(`^([^\s:/]+@[A-Za-z][A-Za-z0-9._-]+)!([A-Za-z][A-Za-z0-9._-]+)$`)
	poolForm    = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$`)
	storageForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$`)
	digits      = regexp.MustCompile(`^\d{1,18}$`)
	pathForm    = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
)

// Line takes the next line.
func (r *Reader) Line(l text.Line) {
	rec, ok := record(l)
	if !ok {
		return
	}
	take := map[string]func(Record){
		"user": r.user, "token": r.token, "group": r.group, "pool": r.pool, "role": r.role, "acl": r.acl,
	}[rec.Kind]
	if take == nil {
		r.refuse(rec, -1, "expected a line of kind user, token, group, pool, role or acl", "ignore config line: %s", strings.TrimSpace(l.Text))
		return
	}
	if name := rec.Kind + ":" + rec.Field(0); rec.Kind != "acl" {
		if first := r.seen[name]; first > 0 {
			r.refused = append(r.refused, r.place(rec, 0, fmt.Sprintf("%s '%s' is on line %d already", rec.Kind, rec.Field(0), first)))
		}
		r.seen[name] = rec.Line
	}
	take(rec)
}

func (r *Reader) place(rec Record, field int, message string) text.Error {
	return text.Error{File: r.file, Line: rec.Line, Column: rec.column(field), Key: rec.Kind, Message: message}
}

// refuse notes a mistake: why a save is refused, and the warning it is in a Config.
func (r *Reader) refuse(rec Record, field int, reason, warning string, args ...any) {
	r.refused = append(r.refused, r.place(rec, field, reason))
	r.c.Warnings = append(r.c.Warnings, "user config - "+fmt.Sprintf(warning, args...))
}

// doubt notes what may be right elsewhere, or soon.
func (r *Reader) doubt(rec Record, field int, warning string, args ...any) {
	message := fmt.Sprintf(warning, args...)
	r.doubtful = append(r.doubtful, r.place(rec, field, message))
	r.c.Warnings = append(r.c.Warnings, "user config - "+message)
}

func truthy(s string) bool { return s != "" && s != "0" }

// free decodes free text. Blanks around it, and a lone "0", are nothing.
func free(s string) string {
	if s = strings.TrimSpace(text.Decode(s)); truthy(s) {
		return s
	}
	return ""
}

func validUser(name string) bool { return len(name) <= 64 && userForm.MatchString(name) }

// expiry reads a time of expiry; nothing is never.
func expiry(s string) (int64, bool) {
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && digits.MatchString(s)
}

func (r *Reader) user(rec Record) {
	name := rec.Field(0)
	expire, ok := expiry(rec.Field(2))
	switch {
	case !validUser(name):
		r.refuse(rec, 0, "expected a user name 'name@realm'", "ignore user '%s' - invalid user name", name)
		return
	case !ok:
		r.refuse(rec, 2, "expected the time of expiry as a number", "ignore user '%s' - (illegal characters in expire '%s')", name, rec.Field(2))
		return
	}
	u := newUser(truthy(rec.Field(1)))
	u.Expire, u.First, u.Last = expire, free(rec.Field(3)), free(rec.Field(4))
	u.Email, u.Comment, u.Keys = rec.Field(5), free(rec.Field(6)), rec.Field(7)
	r.c.Users[name] = u
}

func (r *Reader) token(rec Record) {
	id := rec.Field(0)
	m := tokenForm.FindStringSubmatch(id)
	if m == nil {
		r.refuse(rec, 0, "expected a token 'name@realm!token'", "ignore invalid tokenid '%s'", id)
		return
	}
	expire, ok := expiry(rec.Field(1))
	if !ok {
		r.refuse(rec, 1, "expected the time of expiry as a number", "ignore token '%s' - (illegal characters in expire '%s')", id, rec.Field(1))
		return
	}
	u := r.c.Users[m[1]]
	if u == nil {
		r.doubt(rec, 0, "ignore token '%s' - user does not exist", id)
		return
	}
	u.Tokens[m[2]] = &Token{Expire: expire, Privsep: truthy(rec.Field(2)), Comment: free(rec.Field(3))}
}

func (r *Reader) group(rec Record) {
	name := rec.Field(0)
	if !groupForm.MatchString(name) {
		r.refuse(rec, 0, "expected a group name of letters, digits, '.', '_' or '-'", "ignore group '%s' - invalid characters in group name", name)
		return
	}
	g := r.c.Groups[name]
	if g == nil {
		g = &Group{Users: map[string]bool{}}
		r.c.Groups[name] = g
	}
	if comment := free(rec.Field(2)); comment != "" {
		g.Comment = comment
	}
	for _, member := range schema.SplitList(rec.Field(1)) {
		u := r.c.Users[member]
		if u == nil {
			r.doubt(rec, 1, "ignore invalid group member '%s'", member)
		} else {
			u.Groups[name] = true
		}
		if validUser(member) {
			g.Users[member] = true
		}
	}
}

func (r *Reader) role(rec Record) {
	name := rec.Field(0)
	if !groupForm.MatchString(name) {
		r.refuse(rec, 0, "expected a role name of letters, digits, '.', '_' or '-'", "ignore role '%s' - invalid characters in role name", name)
		return
	}
	privileges := r.c.Roles[name]
	if _, fixed := builtin[name]; fixed || privileges == nil {
		privileges = map[string]bool{}
	}
	for _, privilege := range schema.SplitList(rec.Field(1)) {
		if IsPrivilege(privilege) {
			privileges[privilege] = true
		} else {
			r.doubt(rec, 1, "ignore invalid privilege '%s'", privilege)
		}
	}
	if _, fixed := builtin[name]; !fixed {
		r.c.Roles[name] = privileges
	}
}

func (r *Reader) pool(rec Record) {
	name := rec.Field(0)
	if !poolForm.MatchString(name) {
		r.refuse(rec, 0, "expected a pool name of at most three parts joined by '/'", "ignore pool '%s' - invalid characters in pool name", name)
		return
	}
	p := r.c.pool(name)
	if comment := free(rec.Field(1)); comment != "" {
		p.Comment = comment
	}
	for _, id := range schema.SplitList(rec.Field(2)) {
		vmid, err := strconv.Atoi(id)
		switch {
		case err != nil || !digits.MatchString(id):
			r.refuse(rec, 2, "'"+id+"' is not a VMID", "ignore invalid vmid '%s' in pool '%s'", id, name)
		case r.c.VMs[vmid] != "":
			r.refuse(rec, 2, fmt.Sprintf("guest %d is in pool '%s' already", vmid, r.c.VMs[vmid]), "ignore duplicate vmid '%d' in pool '%s'", vmid, name)
		default:
			p.VMs[vmid] = true
			r.c.VMs[vmid] = name
		}
	}
	for _, storage := range schema.SplitList(rec.Field(3)) {
		if storageForm.MatchString(storage) {
			p.Storages[storage] = true
		} else {
			r.refuse(rec, 3, "'"+storage+"' is not a storage ID", "ignore invalid storage '%s' in pool '%s'", storage, name)
		}
	}
}

// pool returns a pool, made with those it is nested in.
func (c *Config) pool(name string) *Pool {
	if p := c.Pools[name]; p != nil {
		return p
	}
	p := newPool()
	c.Pools[name] = p
	if parent := path.Dir(name); parent != "." {
		p.Parent = parent
		c.pool(parent).Pools[name] = true
	}
	return p
}

// NormalizePath returns the canonical form of a path of access control.
func NormalizePath(p string) (string, bool) {
	if p == "" || p == "0" || !pathForm.MatchString(p) {
		return "", false
	}
	return "/" + strings.Join(strings.FieldsFunc(p, func(c rune) bool { return c == '/' }), "/"), true
}

func (r *Reader) acl(rec Record) {
	where, ok := NormalizePath(rec.Field(1))
	if !ok {
		r.refuse(rec, 1, "expected a path such as /vms/100", "ignore invalid path in acl '%s'", rec.Field(1))
		return
	}
	for _, role := range schema.SplitList(rec.Field(3)) {
		switch {
		case !groupForm.MatchString(role):
			r.refuse(rec, 3, "'"+role+"' is not a role name", "ignore invalid role name '%s' in acl", role)
		case !r.c.HasRole(role):
			r.doubt(rec, 3, "ignore invalid acl role '%s'", role)
		default:
			for _, who := range schema.SplitList(rec.Field(2)) {
				r.grant(rec, where, who, role)
			}
		}
	}
}

// grant gives somebody a role on a path.
func (r *Reader) grant(rec Record, where, who, role string) {
	node := r.c.Node(where, true)
	set := func(list map[string]map[string]bool, name string) {
		if list[name] == nil {
			list[name] = map[string]bool{}
		}
		list[name][role] = truthy(rec.Field(0))
	}
	group, isGroup := strings.CutPrefix(who, "@")
	token := tokenForm.FindStringSubmatch(who)
	switch {
	case isGroup && groupForm.MatchString(group):
		if r.c.Groups[group] == nil {
			r.doubt(rec, 2, "ignore invalid acl group '%s'", group)
		}
		set(node.Groups, group)
	case validUser(who):
		if r.c.Users[who] == nil {
			r.doubt(rec, 2, "ignore invalid acl member '%s'", who)
		}
		set(node.Users, who)
	case token == nil:
		r.refuse(rec, 2, "expected users 'name@realm', groups '@name' or tokens 'name@realm!token'", "invalid user/group '%s' in acl", who)
	case r.c.Users[token[1]] == nil || r.c.Users[token[1]].Tokens[token[2]] == nil:
		r.doubt(rec, 2, "ignore invalid acl token '%s'", who)
	default:
		set(node.Tokens, who)
	}
}
