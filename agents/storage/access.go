package storage

import (
	"errors"
	"fmt"
)

// CheckUse refuses the use of a volume or path that a user asked for, for guest
// vmid (0 for none) and as a content type ("" for any). A path may be anywhere
// on the node: it is for root alone.
func CheckUse(text string, parse func(name string) (Volume, error), content string, vmid uint32, root bool, can Can) error {
	id, err := ParseID(text)
	if err != nil {
		if root {
			return nil
		}
		return errors.New("only root can pass arbitrary filesystem paths")
	}
	v, err := parse(id.Name)
	if err != nil {
		return err
	}
	// Images serve as root directories too: a storage does not tell them apart.
	if content != "" && content != v.Content && !(content == Rootdir && v.Content == Images) {
		return fmt.Errorf("unable to use volume %s - content type needs to be '%s'", id, content)
	}
	if !accessible(id, v, vmid, can) {
		return fmt.Errorf("missing privileges to access %s", id)
	}
	return nil
}

func accessible(id ID, v Volume, vmid uint32, can Can) bool {
	storage := "/storage/" + id.Storage
	owner := fmt.Sprintf("/vms/%d", v.VMID)
	if can(storage, "Datastore.Allocate") {
		return true
	}
	switch v.Content {
	case ISO, Vztmpl, Import:
		return can(storage, "Datastore.AllocateSpace") || can(storage, "Datastore.Audit")
	}
	switch {
	case v.VMID == 0:
		return false
	case v.VMID == vmid:
		return true
	case v.Content == Backup:
		return can(storage, "Datastore.AllocateSpace") && can(owner, "VM.Backup")
	case v.Content == Images:
		return can(storage, "Datastore.Audit") && can(owner, "VM.Config.Disk")
	}
	return false
}
