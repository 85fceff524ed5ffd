package join

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A village is a cluster of one member that takes nodes in.
type village struct {
	authority *Authority
	enrolled  []string
	full      bool
}

var secret = []byte("0123456789abcdef0123456789abcdef")

func (v *village) Authority() (*Authority, error) { return v.authority, nil }
func (v *village) Secret() ([]byte, error)        { return secret, nil }

func (v *village) Enroll(_ context.Context, r Request) (uint32, []byte, error) {
	if v.full {
		return 0, nil, errors.New("no quorum")
	}
	v.enrolled = append(v.enrolled, r.Node)
	return uint32(len(v.enrolled) + 1), []byte("totem { … }"), nil
}

func newDoorman(t *testing.T) (*Doorman, *village) {
	v := &village{authority: authority(t)}
	return &Doorman{
		Cluster: v,
		Password: func(_ context.Context, p string) error {
			if p != "root's" {
				return errors.New("wrong password")
			}
			return nil
		},
		Now: func() time.Time { return now },
		Log: slog.New(slog.DiscardHandler),
	}, v
}

func (d *Doorman) contact(ctx context.Context, body []byte) ([]byte, error) {
	return d.Admit(ctx, "10.0.0.9:4711", body)
}

func request() Request {
	return Request{Node: "n2", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Port: 5405, Password: "root's"}
}

func TestANodeIsWelcomed(t *testing.T) {
	d, v := newDoorman(t)
	token, err := NewToken(secret, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	byToken := request()
	byToken.Password, byToken.Token = "", token
	for _, r := range []Request{request(), byToken} {
		w, key, err := Ask(t.Context(), r, d.contact, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseKey(key); err != nil || w.NodeID == 0 || string(w.GossipKey) != string(secret) {
			t.Errorf("welcome %+v, %v", w, err)
		}
	}
	if len(v.enrolled) != 2 {
		t.Errorf("enrolled %v", v.enrolled)
	}
}

func TestNobodyIsEnrolledWithoutProof(t *testing.T) {
	old, err := NewToken(secret, now.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Request){
		"no proof":       func(r *Request) { r.Password = "" },
		"wrong password": func(r *Request) { r.Password = "toor" },
		"expired token":  func(r *Request) { r.Token = old },
		"bad name":       func(r *Request) { r.Node = "../n2" },
		"dotted name":    func(r *Request) { r.Node = "n2.example.com" },
		"no address":     func(r *Request) { r.Addresses = nil },
		"any address":    func(r *Request) { r.Addresses = []netip.Addr{netip.IPv4Unspecified()} },
		"no port":        func(r *Request) { r.Port = 0 },
	} {
		d, v := newDoorman(t)
		r := request()
		change(&r)
		if _, _, err := Ask(t.Context(), r, d.contact, now); err == nil || len(v.enrolled) != 0 {
			t.Errorf("%s: %v, enrolled %v", name, err, v.enrolled)
		}
	}
}

func TestAnotherVersionIsNamed(t *testing.T) {
	d, v := newDoorman(t)
	r := request()
	r.Version = 7
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Admit(t.Context(), "", body)
	if err == nil || !strings.Contains(err.Error(), "version 7") || len(v.enrolled) != 0 {
		t.Errorf("error = %v, enrolled %v", err, v.enrolled)
	}
}

func TestAWelcomeIsNotTakenOnTrust(t *testing.T) {
	for name, spoil := range map[string]func(*Welcome){
		"another authority": func(w *Welcome) { w.Authority, _, _ = authority(t).PEM() },
		"another's cert":    func(w *Welcome) { w.Certificate = certPEM(issue(t, authority(t), "n2", "").Raw) },
		"no definition":     func(w *Welcome) { w.Definition = nil },
		"no key":            func(w *Welcome) { w.GossipKey = nil },
	} {
		d, _ := newDoorman(t)
		lie := func(ctx context.Context, body []byte) ([]byte, error) {
			answer, err := d.contact(ctx, body)
			if err != nil {
				return nil, err
			}
			var w Welcome
			if err := json.Unmarshal(answer, &w); err != nil {
				return nil, err
			}
			spoil(&w)
			return json.Marshal(w)
		}
		if _, _, err := Ask(t.Context(), request(), lie, now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestWithoutQuorumTheNewNodeIsTold(t *testing.T) {
	d, v := newDoorman(t)
	v.full = true
	if _, _, err := Ask(t.Context(), request(), d.contact, now); err == nil || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("error = %v", err)
	}
}

func FuzzAdmit(f *testing.F) {
	good, err := json.Marshal(request())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"node":"n2","password":"root's","addresses":["::"],"port":1}`))
	a, err := NewAuthority(now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := &Doorman{Cluster: &village{authority: a}, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
		if _, err := d.Admit(t.Context(), "", body); err == nil {
			t.Error("admitted without proof")
		}
	})
}
