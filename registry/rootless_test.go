package registry

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestAsOrdinaryUser runs the tests that work in podman's storage again as an ordinary user, in a user namespace.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 || testenv.InUserNamespace() {
		t.Skip("not possible here: this is the run as an ordinary user")
	}
	user := testenv.OrdinaryUser(t)
	for _, test := range []string{"TestFindsPodmansContainers", "TestPodmansStorageAsStore", "TestCopy", "TestFetchFromRegistry"} {
		t.Run(test, func(t *testing.T) {
			user.RunAgain(t, test, "HOME="+user.TempDir(t), "XDG_RUNTIME_DIR="+user.TempDir(t))
		})
	}
}

// TestRootlessPodmanSeesIt lets an ordinary user's podman, in a namespace of its own, list and mount what was stored for that user.
func TestRootlessPodmanSeesIt(t *testing.T) {
	if os.Getenv("REGISTRY_TEST_HOME") != "" {
		c := newClient(t, PodmanStore)
		putImage(t, c.Store(), "mine:1", testImage(t, "x", false))
		return
	}
	testenv.NeedRealRoot(t)
	user := testenv.OrdinaryUser(t)
	home, run := user.TempDir(t), user.TempDir(t)
	for _, d := range []string{home, run} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + run, "REGISTRY_TEST_HOME=1"}
	user.RunAgain(t, "TestRootlessPodmanSeesIt", env...)
	podman := user.Command(t, testenv.NeedProgram(t, "podman"), "unshare", "sh", "-c",
		`podman images --format '{{.Repository}}:{{.Tag}}' && m=$(podman image mount mine:1) && cat $m/etc/x && podman image umount mine:1 >/dev/null`)
	podman.Env = append(podman.Env, env...)
	t.Cleanup(func() { endPause(t, run) })
	out, err := podman.Output()
	if want := "localhost/mine:1\nx"; err != nil || string(out) != want {
		t.Errorf("podman: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(home, ".local/share/containers/storage")); err != nil {
		t.Error(err)
	}
}

// endPause ends the process that podman leaves behind to keep an ordinary user's namespaces.
func endPause(t *testing.T, run string) {
	data, err := os.ReadFile(filepath.Join(run, "libpod/tmp/pause.pid"))
	if err != nil {
		t.Error(err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 2 {
		t.Errorf("podman's pause process is %q", data)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	testenv.NoProcess(t, strconv.Itoa(pid))
}
