package members

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Members{
		`{"nodename": "a", "version": 4}`: {Self: "a", Nodes: map[string]Node{}},
		`{"nodename": "a", "version": 4, "cluster": {"name": "c", "version": 2, "nodes": 2, "quorate": 1},
		  "nodelist": {"a": {"id": 1, "online": 1, "ip": "10.0.0.1"}, "b": {"id": 2, "online": 0}}}`: {
			Self: "a", Cluster: true, Quorate: true, Nodes: map[string]Node{"a": {Online: true, IP: "10.0.0.1"}, "b": {}},
		},
		`{"nodename": "a", "cluster": {"quorate": 0}, "nodelist": {"a": {"online": 1}}}`: {
			Self: "a", Cluster: true, Nodes: map[string]Node{"a": {Online: true}},
		},
	} {
		if got, err := Parse([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "{", `{"nodelist": []}`} {
		if got, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"nodename": "a", "cluster": {"quorate": 1}, "nodelist": {"a": {"online": 1, "ip": "::1"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if m, err := Parse(content); err == nil && m.Quorate && !m.Cluster {
			t.Errorf("%q: a quorum of no cluster", content)
		}
	})
}
