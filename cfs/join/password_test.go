package join

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestPasswordIsCheckedByTheSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a user")
	}
	for _, tool := range []string{"useradd", "chpasswd", "userdel", "/usr/sbin/unix_chkpwd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	const password = "s3cret of mine"
	user := fmt.Sprintf("etcpve-test-%d", os.Getpid()) // several tests may run on one machine
	if out, err := exec.Command("useradd", "--no-create-home", "--system", user).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", user).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
	})
	set := exec.Command("chpasswd")
	set.Stdin = strings.NewReader(user + ":" + password + "\n")
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
	if err := CheckPassword(t.Context(), user, password); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"", "S3cret of mine", password + "\x00x", strings.Repeat("x", maxPassword+1)} {
		if err := CheckPassword(t.Context(), user, wrong); err == nil {
			t.Errorf("%.20q was taken", wrong)
		}
	}
	if err := CheckPassword(t.Context(), "no-such-user", password); err == nil {
		t.Error("a user who does not exist was let in")
	}
}
