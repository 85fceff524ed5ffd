package cmdline

import (
	"encoding/base64"
	"fmt"

	"etcpve/agents/qemu/config"
	"etcpve/agents/qemu/qdev"
)

// What is read of a configuration, under the names of this package.
type (
	Config   = config.Config
	Options  = config.Options
	KeyError = config.KeyError
)

// Index returns the number in a key such as net0.
func Index(key, prefix string) (int, bool) { return config.Index(key, prefix) }

// DriveBus returns the kind and number of a drive key.
func DriveBus(key string) (bus string, n int, ok bool) { return config.DriveBus(key) }

// BootOf returns the bootindex of each drive and NIC of a guest that has one.
func BootOf(g Guest, h Host) (map[string]int, error) {
	b, err := newBuilder(g, h)
	if err != nil {
		return nil, err
	}
	return b.boot, nil
}

// smbiosFields in the order QEMU's manual has them.
var smbiosFields = []string{"uuid", "manufacturer", "product", "version", "serial", "sku", "family"}

func smbios(o Options) (string, error) {
	text := "type=1"
	for _, field := range smbiosFields {
		value, ok := o[field]
		if !ok {
			continue
		}
		if field != "uuid" && o.Bool("base64", false) {
			plain, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return "", fmt.Errorf("%s: %w", field, err)
			}
			value = string(plain)
		}
		text += "," + field + "=" + qdev.Escape(value)
	}
	return text, nil
}
