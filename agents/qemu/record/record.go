// Package record is what a node remembers of a VM that it started, in the run
// directory and so until the node is booted.
//
// It owns the form of these files and how they are replaced. It never decides
// what is in them: that is the agent's, and, under the lock of the guest, that of
// the tasks that change a running VM in its place.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/cmdline"
)

// Ext is the ending of the files that remember a VM.
const Ext = ".json"

// A Record is what is remembered of a VM that was started, in the run
// directory and so until the node is booted.
type Record struct {
	Process  host.Process   `json:"process"`
	Config   cmdline.Config `json:"config"`             // in effect: as started, and what was plugged since
	Accel    string         `json:"accel"`              // kvm, or tcg and why
	Begun    bool           `json:"begun"`              // the guest was let run or left paused on purpose
	Hooked   bool           `json:"hooked,omitempty"`   // its hookscript knows that it started
	Balloon  int            `json:"balloon,omitempty"`  // MiB asked for last
	PageKiB  int            `json:"pageKiB,omitempty"`  // size of its huge pages
	Pages    int            `json:"pages,omitempty"`    // huge pages set aside for it
	Stopping time.Time      `json:"stopping,omitzero"`  // when the guest was asked to switch off
	Pressed  time.Time      `json:"pressed,omitzero"`   // when it was asked last
	Crash    string         `json:"crash,omitempty"`    // why QEMU is gone
	Mark     string         `json:"mark,omitempty"`     // of the files when the crash was seen
	Spent    string         `json:"spent,omitempty"`    // volume of the state it was resumed from, to be removed
	Moving   []string       `json:"moving,omitempty"`   // keys of disks whose volume a task exchanges
	Warnings []string       `json:"warnings,omitempty"` // what this QEMU could not do as configured
}

// A Dir is the run directory of a node's VMs.
type Dir string

// File is where a VM is remembered.
func (d Dir) File(vmid uint32) string {
	return fmt.Sprintf("%s/%d%s", string(d), vmid, Ext)
}

// Load returns the record of a VM; ok is false if it has none.
func (d Dir) Load(vmid uint32) (r Record, ok bool, err error) {
	content, err := os.ReadFile(d.File(vmid))
	if errors.Is(err, os.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		return r, false, fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	return r, true, nil
}

// Save replaces the record of a VM.
func (d Dir) Save(vmid uint32, r Record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	name := d.File(vmid)
	if err := os.WriteFile(name+".tmp", content, 0o600); err != nil {
		return fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("vm %d: record: %w", vmid, err)
	}
	return nil
}

// Update changes the record of a VM.
func (d Dir) Update(vmid uint32, change func(*Record)) error {
	r, err := d.Must(vmid)
	if err != nil {
		return err
	}
	change(&r)
	return d.Save(vmid, r)
}

// Must returns the record of a VM that has to have one.
func (d Dir) Must(vmid uint32) (Record, error) {
	r, ok, err := d.Load(vmid)
	if err == nil && !ok {
		err = fmt.Errorf("vm %d: no record of it", vmid)
	}
	return r, err
}
