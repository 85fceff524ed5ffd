package storagetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"etcpve/agents/storage"
)

// list returns a listing as a case expects it: volumes by storage, none for a
// storage without any.
func (p *Play) list(t *testing.T, q storage.Query, only []string) (any, error) {
	all, err := p.Plugin.List(t.Context(), p.Config, q)
	var volumes []any
	for _, i := range all {
		id := p.Config.ID + ":" + i.Name
		if only != nil && !slices.Contains(only, id) {
			continue
		}
		v, e := p.Plugin.Parse(i.Name)
		err = errors.Join(err, e)
		volumes = append(volumes, map[string]any{
			"volid": id, "name": v.File, "format": i.Format, "vmid": i.VMID, "size": i.Size, "parent": i.Parent, "ctime": i.Created, "used": i.Used,
		})
	}
	if volumes == nil {
		return map[string]any{}, err
	}
	return map[string]any{p.Config.ID: volumes}, err
}

// same compares what an operation returned, by the fields that are expected.
func same(t *testing.T, s Step, got any) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var have, want any
	if err := errors.Join(json.Unmarshal(text, &have), json.Unmarshal(s.Expected, &want)); err != nil {
		t.Fatal(err)
	}
	if !covers(have, want) {
		t.Errorf("%s %s: %s; want %s", s.Call, s.Volid, text, s.Expected)
	}
}

// covers reports whether a value has all that is wanted. Numbers are as good as
// their text, and what is absent, null, false and zero are one; a list has the
// wanted elements in any order and no others.
func covers(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok || len(want) == 0 && len(have) > 0 {
			return false
		}
		for key, value := range want {
			if !covers(have[key], value) {
				return false
			}
		}
		return true
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return len(want) == 0 && scalar(have) == ""
		}
		rest := slices.Clone(have)
		for _, value := range want {
			i := slices.IndexFunc(rest, func(h any) bool { return covers(h, value) })
			if i < 0 {
				return false
			}
			rest = slices.Delete(rest, i, i+1)
		}
		return true
	}
	return reflect.DeepEqual(scalar(have), scalar(want))
}

// scalar is the text of a value, "" for none.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return map[bool]string{true: "1", false: ""}[v]
	case float64:
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		if v == "0" {
			return ""
		}
		return v
	}
	return fmt.Sprint(v)
}
