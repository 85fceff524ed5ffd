package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"etcpve/agents/ha"
	"etcpve/agents/ha/crm"
	"etcpve/agents/ha/files"
	"etcpve/agents/ha/lrm"
	guestfile "etcpve/cfs/format/guest"
	"etcpve/cfs/format/section"
)

// version is what nodes are known by to the conversion of groups: all nodes that
// run this software understand rules.
const version = "9.1.0"

// crmStore is the CRM's way to the files, and its hands.
type crmStore struct {
	cluster
	ctx   context.Context
	locks *locks
	log   ha.Log
	tell  func(crm.Outcome) // what is said of a round besides its status
	noted *notes
}

// notes are what a store remembers from one round to the next.
type notes struct {
	known  files.Mistakes // that were logged, so that each is logged once
	queued []string       // commands the round has seen, first those of obeyed
	obeyed []string       // commands that were carried out and could not be removed yet
}

// pass returns the commands that are still to be carried out. If others have
// removed those that were, another master has seen to it.
func (n *notes) pass(queued []string) []string {
	if len(queued) < len(n.obeyed) || !slices.Equal(queued[:len(n.obeyed)], n.obeyed) {
		n.obeyed = nil
	}
	n.queued = queued
	return queued[len(n.obeyed):]
}

// take logs what is new of the mistakes a round came across.
func (n *notes) take(found files.Mistakes, log ha.Log) {
	for _, m := range found {
		if !slices.Contains(n.known, m) {
			log.Warn("%s", m)
		}
	}
	n.known = found
}

var (
	_ crm.Store = crmStore{}
	_ crm.Hands = crmStore{}
	_ lrm.Store = (*lrmStore)(nil)
)

// AgentLock tries to take the lock of another node's LRM.
func (s crmStore) AgentLock(node string) ha.Grip { return s.locks.Try(ha.AgentLock(node)) }

// GuestLock returns the kind of the configuration lock of a guest.
func (s crmStore) GuestLock(sid string) string {
	homes, err := s.files.Homes()
	if err != nil {
		return ""
	}
	g, err := guestOf(sid, homes[sid])
	if err != nil {
		return ""
	}
	text, err := s.files.Read(g.Path())
	if err != nil {
		return ""
	}
	c, _ := guestfile.Parse(g.Kind, g.VMID, text)
	return c.Main.Get("lock")
}

// NewUID returns a random string.
func (s crmStore) NewUID() string { return rand.Text() }

// View reads everything a round may know.
func (s crmStore) View() (v crm.View, err error) {
	v = crm.View{Node: s.node, Now: s.Now(), Members: map[string]crm.Member{}, LRMs: map[string]ha.LRMStatus{}}
	members, err := s.files.Members()
	var found files.Mistakes
	for _, name := range slices.Sorted(maps.Keys(members.Online)) {
		v.Members[name] = crm.Member{Connected: members.Online[name], Version: version}
		read := func() (ha.LRMStatus, error) { return s.files.LRM(name) }
		v.LRMs[name], err = and(aside(&found, read))(err)
	}
	v.Status, err = and(s.files.Status)(err)
	v.Resources, err = and(aside(&found, s.files.Configured))(err)
	v.Commands, err = and(s.files.Queued)(err)
	v.Commands = s.noted.pass(v.Commands)
	v.Rules, err = and(func() (string, error) { return s.files.Read(files.Rules) })(err)
	v.Groups, err = and(func() (string, error) { return s.files.Read(files.Groups) })(err)
	if v.Settings, err = and(aside(&found, s.files.Settings))(err); err != nil {
		return v, err
	}
	s.noted.take(found, s.log)
	if v.Settings.Scheduler != ha.DefaultSettings.Scheduler {
		err = s.measure(&v)
	}
	return v, err
}

// aside puts mistakes aside: what could be understood is what was read.
func aside[T any](found *files.Mistakes, read func() (T, error)) func() (T, error) {
	return func() (T, error) {
		value, err := read()
		var m files.Mistakes
		if errors.As(err, &m) {
			*found, err = append(*found, m...), nil
		}
		return value, err
	}
}

// and reads one more thing, and keeps the errors of those before.
func and[T any](read func() (T, error)) func(error) (T, error) {
	return func(before error) (T, error) {
		value, err := read()
		return value, errors.Join(before, err)
	}
}

// Commit makes the changes of a round, writes its status, and then drops the
// commands it has read.
func (s crmStore) Commit(out crm.Outcome) error {
	for _, change := range out.Changes {
		if err := s.change(change); err != nil {
			return fmt.Errorf("%s: %w", change, err)
		}
	}
	// The time of day is for people; decisions are made by the clock.
	out.Status.Timestamp = time.Now().Unix()
	if err := s.files.WriteJSON(files.Status, out.Status); err != nil {
		return err
	}
	s.tell(out)
	// From here on the round counts. Commands that cannot be removed now, as
	// somebody holds the lock for them, are passed over until they can.
	s.noted.obeyed = s.noted.queued[:len(s.noted.obeyed)+out.Commands]
	if err := s.files.Dequeue(s.ctx, len(s.noted.obeyed)); err != nil {
		s.log.Warn("commands that were carried out are still queued: %v", err)
		return nil
	}
	s.noted.obeyed = nil
	return nil
}

func (s crmStore) change(change crm.Change) error {
	switch c := change.(type) {
	case crm.Steal:
		return s.steal(c)
	case crm.SetRequest:
		return s.files.Edit(s.ctx, files.Resources, func(d *section.Document) error {
			return d.Set(idOf(c.SID), "state", string(c.Request))
		})
	case crm.ConvertGroups:
		return s.convert(c)
	}
	return errors.New("unknown change")
}

// steal takes the configuration of a guest off a fenced node by one rename. The
// guest is not to run before the new node's LRM, which holds its lock, says so:
// that is why its power file comes first.
func (s crmStore) steal(c crm.Steal) error {
	from, err := guestOf(c.SID, c.From)
	if err != nil {
		return err
	}
	to := from
	to.Node = c.To
	if err := writePower(s.files, from.VMID, powerStopped); err != nil {
		return err
	}
	if err := moveConfig(s.files, from, to); err != nil || !c.Unlock {
		return err
	}
	text, err := s.files.Read(to.Path())
	if err != nil {
		return err
	}
	config, _ := guestfile.Parse(to.Kind, to.VMID, text)
	config.Main.Delete("lock")
	return s.files.Write(to.Path(), guestfile.Update(text, config))
}

// convert replaces groups by rules. Each step can be repeated.
func (s crmStore) convert(c crm.ConvertGroups) error {
	err := s.files.Locked(s.ctx, func() error { return s.files.Write(files.Rules, c.Rules) })
	if err != nil {
		return err
	}
	err = s.files.Edit(s.ctx, files.Resources, func(d *section.Document) error {
		for sid, failback := range c.Failback {
			if err := d.Set(idOf(sid), "group"); err != nil {
				return err
			}
			if failback {
				continue
			}
			if err := d.Set(idOf(sid), "failback", "0"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.files.Root, files.Groups)); !os.IsNotExist(err) {
		return err
	}
	return nil
}

// idlePublish is how often an LRM without services says that it is there.
const idlePublish = time.Minute

// lrmStore is the LRM's way to the files.
type lrmStore struct {
	cluster
	last ha.LRMStatus // as published
	at   time.Time

	mu   sync.Mutex // guards mine
	mine []string   // the services that are, or were last, this node's
}

// Status reads ha/manager_status, and notes the services of this node.
func (s *lrmStore) Status() (ha.ManagerStatus, error) {
	status, err := s.files.Status()
	if err != nil {
		return status, err
	}
	var mine []string
	for _, sid := range status.SIDs() {
		if status.Services[sid].Node == s.node {
			mine = append(mine, sid)
		}
	}
	s.mu.Lock()
	s.mine = mine
	s.mu.Unlock()
	return status, nil
}

// services returns the services of this node without a look at the files.
func (s *lrmStore) services() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mine)
}

// Resources reads what is configured. The master logs mistakes.
func (s *lrmStore) Resources() (map[string]ha.Resource, error) {
	return aside(new(files.Mistakes), s.files.Configured)()
}

// Publish writes the node's lrm_status. One that waits for work and has nothing
// new to say says so once a minute.
func (s *lrmStore) Publish(status ha.LRMStatus) error {
	idle := status.State == ha.LRMWait && len(status.Results)+len(s.last.Results) == 0
	if idle && s.last.State == status.State && s.last.Mode == status.Mode && time.Since(s.at) < idlePublish && s.published() {
		return nil
	}
	status.Timestamp = time.Now().Unix()
	if err := s.files.WriteJSON(files.LRMStatus(s.node), status); err != nil {
		return err
	}
	s.last, s.at = status, time.Now()
	return nil
}

// published reports whether the status is there: a node that joins a cluster
// finds another tree.
func (s *lrmStore) published() bool {
	_, err := os.Stat(filepath.Join(s.files.Root, files.LRMStatus(s.node)))
	return err == nil
}
