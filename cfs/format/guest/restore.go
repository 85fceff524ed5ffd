package guest

import (
	"regexp"
	"strings"

	"etcpve/cfs/format/text"
	"etcpve/cfs/layout"
)

// A BackupDrive is one drive of a backed-up virtual machine, as the backup's
// configuration lists it.
type BackupDrive struct {
	Key     string // scsi0
	Device  string // drive-scsi0, the stream in the archive
	Storage string
	Format  string // raw if the backup does not say
}

var backupDriveForm = regexp.MustCompile(`^#qmdump#map:(\S+):(\S+):(\S*):(\S*):\s*$`)

// BackupDrives returns the drives that a backup's configuration lists.
func BackupDrives(content string) []BackupDrive {
	var drives []BackupDrive
	for _, line := range text.Lines(content) {
		if m := backupDriveForm.FindStringSubmatch(line.Text); m != nil {
			d := BackupDrive{Key: m[1], Device: m[2], Storage: m[3], Format: m[4]}
			if d.Format == "" {
				d.Format = "raw"
			}
			drives = append(drives, d)
		}
	}
	return drives
}

var (
	leftBehind   = regexp.MustCompile(`^(?:#qmdump#|#vzdump#|lock:|unused\d+:|parent:)`)
	restoredForm = regexp.MustCompile(`^((?:ide|scsi|virtio|sata|efidisk|tpmstate)\d+):\s*(\S.*?)\s*$`)
)

// Restore rewrites the configuration from a backup line by line: drives get
// the volumes that were allocated for them, drives that were not backed up
// become comments, and what belonged to the old guest is left out.
func Restore(content string, volumes map[string]string) string {
	var out strings.Builder
	for _, line := range text.Lines(content) {
		if leftBehind.MatchString(line.Text) {
			continue
		}
		out.WriteString(restoreLine(line.Text, volumes) + line.End)
	}
	return out.String()
}

func restoreLine(line string, volumes map[string]string) string {
	m := restoredForm.FindStringSubmatch(line)
	if m == nil {
		return line
	}
	drive, err := ParseVolume(layout.QEMU, m[1], m[2])
	if err != nil {
		return line
	}
	if drive.Options["backup"] == "0" {
		return "#" + line
	}
	volume, ok := volumes[m[1]]
	if !ok {
		return line
	}
	drive.Volume = volume
	delete(drive.Options, "format")
	return m[1] + ": " + drive.String()
}
