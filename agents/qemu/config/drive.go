package config

// driveBuses are the kinds of drives in the order in which they are made, each
// with the number of drives it takes.
var driveBuses = []struct {
	prefix string
	count  int
}{{"ide", 4}, {"scsi", 31}, {"virtio", 16}, {"sata", 6}}

// DriveKeys returns the keys of the drives that are devices, in order.
func (c Config) DriveKeys() (keys []string) {
	for _, bus := range driveBuses {
		keys = append(keys, c.Indexed(bus.prefix)...)
	}
	return keys
}

// DriveBus returns the kind and number of a drive key.
func DriveBus(key string) (bus string, n int, ok bool) {
	for _, b := range driveBuses {
		if n, ok := Index(key, b.prefix); ok && n < b.count {
			return b.prefix, n, true
		}
	}
	return "", 0, false
}

// IsCDROM reports whether a drive is for CDs.
func (c Config) IsCDROM(key string) bool {
	o, err := c.Options(key, "file")
	return err == nil && o["media"] == "cdrom"
}
