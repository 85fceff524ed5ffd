package join

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// maxPassword is the longest password that PAM takes.
const maxPassword = 512

// CheckPassword says whether password is the one of the local Unix user. It
// asks PAM's own checker, which knows every form a password can be stored in;
// the password goes through a pipe, never onto a command line.
func CheckPassword(ctx context.Context, user, password string) error {
	if password == "" || len(password) > maxPassword || strings.ContainsRune(password, 0) {
		return fmt.Errorf("user %s: malformed password", user)
	}
	cmd := exec.CommandContext(ctx, "/usr/sbin/unix_chkpwd", user, "nonull")
	cmd.Stdin = strings.NewReader(password + "\x00")
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("user %s: wrong password", user)
	case err != nil:
		return fmt.Errorf("user %s: check password: %w", user, err)
	}
	return nil
}
