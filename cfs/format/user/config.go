package user

import (
	"strings"
)

// A Config is what user.cfg means. Lines and names that mean nothing are left
// out; Warnings says so in the wording users know.
type Config struct {
	Users    map[string]*User
	Groups   map[string]*Group
	Roles    map[string]map[string]bool // those of the file: role → privileges
	Pools    map[string]*Pool
	VMs      map[int]string // guest → pool
	ACL      *Node          // of the path "/"
	Warnings []string
}

// A User may log in.
type User struct {
	Enable             bool
	Expire             int64 // Unix time, 0 for never
	First, Last, Email string
	Comment, Keys      string
	Groups             map[string]bool
	Tokens             map[string]*Token
}

// A Token is a user's key for programs.
type Token struct {
	Expire  int64
	Privsep bool // has only the privileges that the token itself was given
	Comment string
}

// A Group is a list of users. Some may not exist.
type Group struct {
	Users   map[string]bool
	Comment string
}

// A Pool is a set of guests and storages.
type Pool struct {
	Comment  string
	VMs      map[int]bool
	Storages map[string]bool
	Parent   string          // of a nested pool
	Pools    map[string]bool // nested directly in this one
}

// A Node is a path of the tree of access control lists.
type Node struct {
	Children map[string]*Node
	// who → role → whether it counts below the path too
	Users, Groups, Tokens map[string]map[string]bool
}

func newNode() *Node {
	return &Node{map[string]*Node{}, map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]map[string]bool{}}
}

// New returns a configuration that knows only root@pam.
func New() *Config {
	return &Config{
		Users:  map[string]*User{root: newUser(true)},
		Groups: map[string]*Group{}, Roles: map[string]map[string]bool{}, Pools: map[string]*Pool{},
		VMs: map[int]string{}, ACL: newNode(),
	}
}

// root always exists and is everybody's last resort.
const root = "root@pam"

func newUser(enable bool) *User {
	return &User{Enable: enable, Groups: map[string]bool{}, Tokens: map[string]*Token{}}
}

func newPool() *Pool {
	return &Pool{VMs: map[int]bool{}, Storages: map[string]bool{}, Pools: map[string]bool{}}
}

// HasRole reports whether a role exists, built in or in the file.
func (c *Config) HasRole(name string) bool {
	_, builtIn := builtin[name]
	return builtIn || c.Roles[name] != nil
}

// Node returns the node of a path, made if asked for.
func (c *Config) Node(path string, create bool) *Node {
	n := c.ACL
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		next := n.Children[part]
		if next == nil {
			if !create {
				return nil
			}
			next = newNode()
			n.Children[part] = next
		}
		n = next
	}
	return n
}

// Parse reads user.cfg as far as it can be understood.
func Parse(content string) *Config {
	r := NewReader(File)
	for _, l := range ParseDocument(content).lines {
		r.Line(l)
	}
	return r.c
}
