// Package qdev writes the parts of a virtual machine the two ways QEMU takes
// them: as an argument of its command line and as arguments of a QMP command.
//
// It owns the notation and never knows what a driver or property means.
package qdev

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A Device is a QEMU device, object or character device: its driver with its
// properties, in order.
type Device struct {
	Driver string
	Props  []Prop
}

// A Prop is one property: a string, a whole number or a truth value.
type Prop struct {
	Name  string
	Value any
}

// New makes a device from pairs of names and values.
func New(driver string, pairs ...any) Device {
	d := Device{Driver: driver}
	for i := 0; i+1 < len(pairs); i += 2 {
		d.Props = append(d.Props, Prop{pairs[i].(string), pairs[i+1]})
	}
	return d
}

// With returns the device with more properties.
func (d Device) With(pairs ...any) Device {
	d.Props = append(d.Props[:len(d.Props):len(d.Props)], New("", pairs...).Props...)
	return d
}

// Get returns the value of a property, nil if it has none.
func (d Device) Get(name string) any {
	for _, p := range d.Props {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

// ID returns the identifier of the device.
func (d Device) ID() string {
	id, _ := d.Get("id").(string)
	return id
}

// String is the device as an argument of -device, -object or -chardev.
func (d Device) String() string {
	var b strings.Builder
	b.WriteString(d.Driver)
	for _, p := range d.Props {
		b.WriteString("," + p.Name + "=")
		switch v := p.Value.(type) {
		case bool:
			b.WriteString(OnOff(v))
		case string:
			b.WriteString(Escape(v))
		default:
			fmt.Fprint(&b, v)
		}
	}
	return b.String()
}

// Arguments is the device as arguments of device_add.
func (d Device) Arguments() map[string]any {
	args := map[string]any{"driver": d.Driver}
	for _, p := range d.Props {
		args[p.Name] = p.Value
	}
	return args
}

// Escape doubles commas, which separate the options of QEMU.
func Escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// OnOff is how QEMU writes a truth value.
func OnOff(v bool) string {
	if v {
		return "on"
	}
	return "off"
}

// JSON is a block node or object, whose keys come out sorted.
func JSON(v map[string]any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // nodes hold only strings, numbers, booleans and nodes
	}
	return string(text)
}
