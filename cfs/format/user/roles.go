package user

import (
	"slices"
	"strings"
)

const (
	datastoreAdmin = "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit"
	mappingUser    = "Mapping.Audit Mapping.Use"
	poolAdmin      = "Pool.Allocate Pool.Audit"
	sdnAdmin       = "SDN.Allocate SDN.Audit SDN.Use"
	sysAdmin       = "Sys.Audit Sys.Console Sys.Syslog"
	userAdmin      = "Group.Allocate Realm.AllocateUser User.Modify"
	guestAgent     = "VM.GuestAgent.Audit VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt VM.GuestAgent.FileWrite VM.GuestAgent.Unrestricted"
	vmUser         = "VM.Audit VM.Backup VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.PowerMgmt " + guestAgent
	vmAdmin        = vmUser + " VM.Allocate VM.Clone VM.Config.CPU VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network" +
		" VM.Config.Options VM.Migrate VM.Replicate VM.Snapshot VM.Snapshot.Rollback"
	admin         = datastoreAdmin + " " + mappingUser + " " + poolAdmin + " " + sdnAdmin + " " + sysAdmin + " " + userAdmin + " " + vmAdmin
	administrator = admin + " Mapping.Modify Permissions.Modify Realm.Allocate Sys.AccessNetwork Sys.Incoming Sys.Modify Sys.PowerMgmt"
)

// builtin are the roles that exist without being written down.
var builtin = map[string][]string{
	"Administrator":     words(administrator),
	"NoAccess":          nil,
	"PVEAdmin":          words(admin),
	"PVEAuditor":        words("Datastore.Audit Mapping.Audit Pool.Audit SDN.Audit Sys.Audit VM.Audit VM.GuestAgent.Audit"),
	"PVEDatastoreAdmin": words(datastoreAdmin),
	"PVEDatastoreUser":  words("Datastore.AllocateSpace Datastore.Audit"),
	"PVEMappingAdmin":   words(mappingUser + " Mapping.Modify"),
	"PVEMappingUser":    words(mappingUser),
	"PVEPoolAdmin":      words(poolAdmin),
	"PVEPoolUser":       words("Pool.Audit"),
	"PVESDNAdmin":       words(sdnAdmin),
	"PVESDNUser":        words("SDN.Audit SDN.Use"),
	"PVESysAdmin":       words(sysAdmin),
	"PVETemplateUser":   words("VM.Audit VM.Clone"),
	"PVEUserAdmin":      words(userAdmin),
	"PVEVMAdmin":        words(vmAdmin),
	"PVEVMUser":         without(words(vmUser), "VM.GuestAgent.Unrestricted"),
}

func words(list string) []string { return slices.Sorted(strings.FieldsSeq(list)) }

func without(list []string, word string) []string {
	return slices.DeleteFunc(list, func(w string) bool { return w == word })
}

// Builtin returns the privileges of a built-in role, sorted.
func Builtin(role string) (privileges []string, ok bool) {
	privileges, ok = builtin[role]
	return slices.Clone(privileges), ok
}

// Privileges returns all privileges, sorted.
func Privileges() []string { return slices.Clone(builtin["Administrator"]) }

// IsPrivilege reports whether there is such a privilege.
func IsPrivilege(name string) bool {
	_, found := slices.BinarySearch(builtin["Administrator"], name)
	return found
}
