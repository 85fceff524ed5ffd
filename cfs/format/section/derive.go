package section

import (
	"errors"
	"maps"
	"slices"

	"etcpve/cfs/format/schema"
)

// A Schema is what a call that creates or updates a section accepts: either
// an object of properties, or several schemas combined.
type Schema struct {
	Type                 string           `json:"type,omitempty"`
	Properties           schema.Keys      `json:"properties,omitempty"`
	AdditionalProperties *int             `json:"additionalProperties,omitempty"` // 0 where only Properties may be given
	AllOf                []*Schema        `json:"allOf,omitempty"`
	OneOf                []*Schema        `json:"oneOf,omitempty"`
	InstanceType         string           `json:"instance-type,omitempty"` // the section type of one branch of OneOf
	TypeProperty         string           `json:"type-property,omitempty"` // selects the branch
	TypePropertySchema   *schema.Property `json:"type-property-schema,omitempty"`
}

// A Call says what a schema is derived for.
type Call struct {
	Update     bool
	SkipType   bool        // the type is not a parameter
	SingleType string      // only the keys of this type
	Extra      schema.Keys // parameters beside the section's keys
}

// Schema derives the parameters of a call.
func (d *Definition) Schema(c Call) (*Schema, error) {
	if d.anyIsolated() {
		return d.isolatedSchema(c)
	}
	keys := d.unifiedKeys(c)
	if c.Update {
		maps.Copy(keys, updateKeys())
	}
	maps.Copy(keys, c.Extra)
	s := object(keys)
	s.Type = "object"
	return s, nil
}

func object(keys schema.Keys) *Schema {
	return &Schema{Properties: keys, AdditionalProperties: new(int)}
}

// updateKeys returns the parameters that every update call has.
func updateKeys() schema.Keys {
	limit := func(n int) *int { return &n }
	return schema.Keys{
		"delete": {Type: "string", Format: schema.Format{Name: "pve-configid-list"}, MaxLength: limit(4096), Optional: true,
			Description: "A list of settings you want to delete."},
		"digest": {Type: "string", MaxLength: limit(64), Optional: true,
			Description: "Prevent changes if current configuration file has a different digest. This can be used to prevent concurrent modifications."},
	}
}

// merged returns all keys of a definition without isolation. What types add is
// optional: other types may lack it.
func (d *Definition) merged() schema.Keys {
	all := schema.Keys{}
	for _, t := range d.Types {
		for key, p := range t.Properties {
			all[key] = optional(p, true)
		}
	}
	maps.Copy(all, d.Base)
	all["type"] = d.typeKey()
	return all
}

// typeKey returns the parameter that names the type.
func (d *Definition) typeKey() *schema.Property {
	p := schema.Property{}
	if known := d.Base["type"]; known != nil {
		p = *known
	}
	p.Type, p.Enum = "string", d.TypeNames()
	return &p
}

func optional(p *schema.Property, flag bool) *schema.Property {
	changed := *p
	changed.Optional = schema.Flag(flag)
	return &changed
}

func (d *Definition) unifiedKeys(c Call) schema.Keys {
	keys := schema.Keys{}
	for key, p := range d.merged() {
		if key == "type" && (c.Update || c.SkipType) {
			continue
		}
		if c.SingleType != "" && !takes(d.Types[c.SingleType], key) {
			continue
		}
		switch {
		case !bool(p.Optional):
			keys[key] = p
		case c.Update:
			if d.modifiable(key) {
				keys[key] = p
			}
		default:
			keys[key] = optional(p, !d.requiredByAll(key))
		}
	}
	return keys
}

func takes(t *Type, key string) bool {
	if t == nil {
		return false
	}
	_, ok := t.Options[key]
	return ok
}

// modifiable reports whether some type takes the key and lets it change.
func (d *Definition) modifiable(key string) bool {
	for _, t := range d.Types {
		if o, ok := t.Options[key]; ok && !bool(o.Fixed) {
			return true
		}
	}
	return false
}

func (d *Definition) requiredByAll(key string) bool {
	for _, t := range d.Types {
		if o, ok := t.Options[key]; !ok || bool(o.Optional) {
			return false
		}
	}
	return len(d.Types) > 0
}

func (d *Definition) isolatedSchema(c Call) (*Schema, error) {
	var parts []*Schema
	if c.Update {
		parts = append(parts, object(updateKeys()))
	}
	base := schema.Keys{}
	for key, p := range d.Base {
		if key != "type" && !bool(p.Optional) && !d.used(key) {
			base[key] = p
		}
	}
	maps.Copy(base, c.Extra)
	if len(base) > 0 {
		parts = append(parts, object(base))
	}
	names := d.TypeNames()
	switch {
	case c.SingleType != "":
		parts = append(parts, object(d.typeKeys(c.SingleType, c.Update)))
	case c.SkipType && len(names) != 1:
		return nil, errors.New("cannot leave out the type when there is more than one")
	case c.SkipType:
		parts = append(parts, object(d.typeKeys(names[0], c.Update)))
	default:
		parts = append(parts, d.branches(names, c.Update))
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return &Schema{AllOf: parts}, nil
}

// used reports whether some type takes a common key.
func (d *Definition) used(key string) bool {
	return slices.ContainsFunc(d.TypeNames(), func(name string) bool {
		_, ok := d.options(name)[key]
		return ok
	})
}

func (d *Definition) branches(names []string, update bool) *Schema {
	kind := d.typeKey()
	if kind.Description == "" {
		kind.Description = "Section Type"
	}
	s := &Schema{TypeProperty: "type", TypePropertySchema: kind}
	for _, name := range names {
		branch := object(d.typeKeys(name, update))
		branch.InstanceType = name
		s.OneOf = append(s.OneOf, branch)
	}
	return s
}

// typeKeys returns the keys of one type with its own idea of what is required.
func (d *Definition) typeKeys(name string, update bool) schema.Keys {
	keys := schema.Keys{}
	for key, o := range d.options(name) {
		if update && bool(o.Fixed) {
			continue
		}
		if p := d.property(name, key); p != nil {
			keys[key] = optional(p, update || bool(p.Optional) || bool(o.Optional))
		}
	}
	return keys
}
