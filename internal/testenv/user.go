package testenv

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// User is an ordinary user with subordinate ids, as whom a test can run programs.
type User struct {
	Name     string
	UID, GID int
	Home     string
}

// OrdinaryUser returns such a user: the one who runs the tests, or as root the first of /etc/subuid that has an account.
func OrdinaryUser(t testing.TB) User {
	t.Helper()
	NeedPrograms(t, "newuidmap", "newgidmap")
	if InUserNamespace() {
		t.Skip("not possible here: the tests run as root of a user namespace already")
	}
	file, err := os.Open("/etc/subuid")
	if err != nil {
		Missing(t, "an ordinary user with subordinate ids: %v", err)
	}
	defer file.Close()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		name, _, _ := strings.Cut(scan.Text(), ":")
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(account.Uid)
		gid, _ := strconv.Atoi(account.Gid)
		if uid != 0 && (os.Getuid() == 0 || os.Getuid() == uid) {
			return User{Name: name, UID: uid, GID: gid, Home: account.HomeDir}
		}
	}
	Missing(t, "an ordinary user with subordinate ids: /etc/subuid has none with an account")
	return User{}
}

// Command prepares a program that runs as the user, killed when the test ends, in a clean environment that the test may add to.
func (u User) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != u.UID {
		args = append([]string{"--reuid", strconv.Itoa(u.UID), "--regid", strconv.Itoa(u.GID), "--init-groups", name}, args...)
		name = NeedProgram(t, "setpriv")
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + u.Home, "USER=" + u.Name, "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	if CI() {
		cmd.Env = append(cmd.Env, "IMGBUILD_CI=1")
	}
	return cmd
}

// TempDir makes a directory that belongs to the user and that the user can reach; it is removed after the test.
func (u User) TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "imgbuild-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's directory: %v", err)
		}
	})
	if os.Getuid() == 0 {
		if err := os.Chown(dir, u.UID, u.GID); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBinary puts a copy of the running test binary where the user can execute it, and returns its path.
func (u User) TestBinary(t testing.TB) string {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(u.TempDir(t), "test-binary")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// RunAgain runs one test of the running test binary again as the user and fails if it fails there. The environment gets env added.
// A TestMain that needs root-like powers enters the user namespace by itself.
func (u User) RunAgain(t testing.TB, test string, env ...string) {
	t.Helper()
	cmd := u.Command(t, u.TestBinary(t), "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = append(cmd.Env, env...)
	if dir, err := os.Getwd(); err == nil {
		cmd.Env = append(cmd.Env, "IMGBUILD_TEST_SOURCE="+dir)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as user %s: %v\n%s", u.Name, err, out)
	}
	if strings.Contains(string(out), "no tests to run") {
		t.Fatalf("as user %s: no test %s", u.Name, test)
	}
	t.Logf("as user %s:\n%s", u.Name, out)
}

// NoProcess fails unless the process with this id has ended or ends within twenty seconds.
func NoProcess(t testing.TB, pid string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(pid), "stat"))
		if err != nil || strings.Contains(string(data), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("process %s still lives: %s", pid, data)
			return
		}
	}
}

// AsBoth runs a test as root and again as an ordinary user, whose environment gets env added.
func AsBoth(t *testing.T, test func(t *testing.T), env ...string) {
	t.Helper()
	NeedRoot(t)
	test(t)
	if InUserNamespace() || t.Failed() {
		return
	}
	t.Run("ordinary user", func(t *testing.T) {
		OrdinaryUser(t).RunAgain(t, strings.TrimSuffix(t.Name(), "/ordinary_user"), env...)
	})
}
