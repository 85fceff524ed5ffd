package pbs_test

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"etcpve/agents/storage"
	"etcpve/plugins/storage/pbs"
)

// newServer answers as a backup server would, to the user u@pbs with the
// password "right" and to the token t of that user.
func newServer(t *testing.T) storage.BackupServer {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api2/json/access/ticket", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("username") != "u@pbs" || r.FormValue("password") != "right" {
			http.Error(w, "authentication failed", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"data":{"ticket":"PBS:u@pbs:1::x+y=="}}`)
	})
	mux.HandleFunc("GET /api2/json/admin/datastore", func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("PBSAuthCookie")
		ticket := ""
		if err == nil {
			ticket, _ = url.QueryUnescape(cookie.Value)
		}
		if ticket != "PBS:u@pbs:1::x+y==" && r.Header.Get("Authorization") != "PBSAPIToken=u@pbs!t:right" {
			http.Error(w, "permission check failed", http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"data":[{"store":"one","comment":"first"},{"store":"two"}]}`)
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(s.Certificate().Raw)
	return storage.BackupServer{Host: host, Port: port, User: "u@pbs", Password: "right",
		Fingerprint: strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":")}
}

func TestDatastoresAreFound(t *testing.T) {
	s := newServer(t)
	want := []storage.Datastore{{Name: "one", Comment: "first"}, {Name: "two"}}
	for _, user := range []string{"u@pbs", "u@pbs!t"} {
		s.User = user
		if found, err := (pbs.Plugin{}).Datastores(t.Context(), s); err != nil || !reflect.DeepEqual(found, want) {
			t.Errorf("%s: %+v, %v", user, found, err)
		}
	}
}

func TestWrongServerGetsNoPassword(t *testing.T) {
	right := newServer(t)
	for what, change := range map[string]func(*storage.BackupServer){
		"401":         func(s *storage.BackupServer) { s.Password = "wrong" },
		"certificate": func(s *storage.BackupServer) { s.Fingerprint = "00" + s.Fingerprint[2:] },
		"x509":        func(s *storage.BackupServer) { s.Fingerprint = "" },
	} {
		s := right
		change(&s)
		if found, err := (pbs.Plugin{}).Datastores(t.Context(), s); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %+v, %v", what, found, err)
		}
	}
}
