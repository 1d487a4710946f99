package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
)

// TestMain also makes the test binary a program that runs one sandbox for a test that kills it, and one that probes system calls inside.
func TestMain(m *testing.M) {
	Init()
	switch os.Getenv("SANDBOX_TEST") {
	case "probe":
		os.Exit(probe())
	case "terminal":
		userns.MustEnter()
		os.Exit(terminalChild())
	case "victim":
		root := os.Getenv("SANDBOX_ROOT")
		err := Run(context.Background(), hostSpec(root, "sh", "-c", "sleep 1000 & echo x > /started; wait"))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	userns.MustEnter()
	os.Exit(m.Run())
}

// hostSpec runs the host's own programs inside an otherwise empty tree.
func hostSpec(root string, args ...string) Spec {
	spec := Spec{Root: root, Args: args}
	for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			spec.Binds = append(spec.Binds, Bind{Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return spec
}

// newRoot makes a tree for hostSpec.
func newRoot(t *testing.T) string {
	t.Helper()
	testenv.NeedFile(t, "/usr/bin/sh")
	if target, err := os.Readlink("/bin"); err != nil || target != "usr/bin" {
		testenv.Missing(t, "a host with merged /usr")
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "etc", "proc", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := os.Symlink("usr/"+link, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func shell(t *testing.T, root, script string) string {
	t.Helper()
	var out bytes.Buffer
	spec := hostSpec(root, "sh", "-c", script)
	spec.Stdout, spec.Stderr = &out, &out
	if err := Run(t.Context(), spec); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

func TestInside(t *testing.T) { testenv.AsBoth(t, testInside) }

func testInside(t *testing.T) {
	root := newRoot(t)
	t.Setenv("SECRET_OF_HOST", "x")
	got := shell(t, root, `
id -u; pwd; umask; echo $HOME $LC_ALL $DEBIAN_FRONTEND $SECRET_OF_HOST; cat /proc/1/comm | wc -l; hostname
[ $(ls -d /proc/[0-9]* | wc -l) -lt 10 ] && echo few processes
ls /dev; ls /run; stat -c %a /tmp /dev/shm /dev /run/lock
echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; readlink /dev/fd
cat /proc/swaps; test -e /run/systemd/system; echo systemd $?
/usr/sbin/policy-rc.d; echo policy $?
start-stop-daemon --start; echo daemon $?
`)
	want := `0
/
0022
/root C.UTF-8 noninteractive
1
localhost
few processes
fd
full
null
ptmx
pts
random
shm
stderr
stdin
stdout
tty
urandom
zero
imgbuild
lock
systemd
1777
1777
755
1777
3
3
/proc/self/fd
systemd 1
policy 101
daemon 0
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Nothing of it stays in the tree.
	var left []string
	for _, dir := range []string{"dev", "run", "tmp", "sys", "etc", "usr/sbin"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			left = append(left, dir+"/"+e.Name())
		}
	}
	if left != nil {
		t.Errorf("left in the tree: %q", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), root) {
		t.Errorf("mounts of the host hold the root tree: %v", err)
	}
}

// TestMachineIsProtected tries to change what belongs to the machine.
func TestMachineIsProtected(t *testing.T) { testenv.AsBoth(t, testMachineIsProtected) }

func testMachineIsProtected(t *testing.T) {
	root := newRoot(t)
	if os.Getuid() == 0 && !testenv.InUserNamespace() {
		if err := unix.Mknod(filepath.Join(root, "etc", "mem"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
			t.Fatal(err)
		}
	} else if err := os.WriteFile(filepath.Join(root, "etc", "mem"), nil, 0); err != nil {
		t.Fatal(err)
	}
	got := shell(t, root, `
exec 2>/dev/null
for f in /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger /sys/power/state /sys/kernel/mm/ksm/run; do
	test -e $f && (echo 1 > $f) && echo wrote $f
done
mount -t tmpfs none /etc && echo mounted
mount -o remount,rw /sys && echo remounted
(cat /etc/mem > /dev/null) && test -c /etc/mem && echo opened a device of the tree
mknod /etc/zero c 1 5 && (head -c1 /etc/zero > /dev/null) && echo opened a device made inside
touch /usr/bin/x && echo wrote to a read-only bind
ls /usr/bin/sh > /dev/null && echo end
`)
	if diff := cmp.Diff("end\n", got); diff != "" {
		t.Error(diff)
	}
}

// TestHostileLinks runs a tree whose system directories are links that lead out of it.
func TestHostileLinks(t *testing.T) {
	testenv.NeedRoot(t)
	root, outside := newRoot(t), t.TempDir()
	for _, name := range []string{"dev", "run", "sys", "tmp", "etc", "proc"} {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../../../../../../.."+outside, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	err := Run(t.Context(), hostSpec(root, "true"))
	t.Logf("error: %v", err)
	entries, readErr := os.ReadDir(outside)
	if readErr != nil || len(entries) != 0 {
		t.Errorf("a directory outside of the tree has %v, %v", entries, readErr)
	}
}

func TestNames(t *testing.T) { testenv.AsBoth(t, testNames) }

func testNames(t *testing.T) {
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		testenv.Missing(t, "a resolv.conf of the host: %v", err)
	}
	const own = "nameserver 192.0.2.1\n"
	for _, test := range []struct {
		name, before, script, after string // before and after: "" nothing, "-> X" a link, else the content
	}{
		{"none", "", "", ""},
		{"file", own, "", own},
		{"dangling link", "-> ../run/systemd/resolve/stub-resolv.conf", "", "-> ../run/systemd/resolve/stub-resolv.conf"},
		{"absolute link", "-> /var/run/resolvconf/resolv.conf", "", "-> /var/run/resolvconf/resolv.conf"},
		{"link in the tree", "-> resolv.other", "", "-> resolv.other"},
		{"written to", own, "echo junk >> /etc/resolv.conf", own},
		{"linked by a package", own, "mv /etc/resolv.conf /etc/resolv.bak; ln -s /run/systemd/resolve/resolv.conf /etc/resolv.conf; cat /etc/resolv.conf", "-> /run/systemd/resolve/resolv.conf"},
		{"made by a script", "", "rm /etc/resolv.conf; echo nameserver 192.0.2.7 > /etc/resolv.conf", "nameserver 192.0.2.7\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newRoot(t)
			path := filepath.Join(root, "etc/resolv.conf")
			if err := os.Symlink("/run", filepath.Join(root, "var-run")); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(root, "var"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil {
				t.Fatal(err)
			}
			put(t, path, test.before)
			got := shell(t, root, "cat /etc/resolv.conf; "+test.script)
			if !strings.HasPrefix(got, string(host)) {
				t.Errorf("inside, resolv.conf is %q", got)
			}
			if diff := cmp.Diff(test.after, get(t, path)); diff != "" {
				t.Error(diff)
			}
			if bak, err := os.ReadFile(filepath.Join(root, "etc/resolv.bak")); err == nil && string(bak) != own {
				t.Errorf("the backup holds %q", bak)
			}
			if _, err := os.Lstat(path + savedSuffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("saved file: %v", err)
			}
		})
	}
}

func put(t *testing.T, path, what string) {
	t.Helper()
	var err error
	if target, ok := strings.CutPrefix(what, "-> "); ok {
		err = os.Symlink(target, path)
	} else if what != "" {
		err = os.WriteFile(path, []byte(what), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	if target, err := os.Readlink(path); err == nil {
		return "-> " + target
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// probe calls what waits for a disk, on file descriptors that do not exist: only the filter can make that succeed.
func probe() int {
	page := make([]byte, 2*os.Getpagesize())
	fmt.Println("fsync", unix.Fsync(999), "fdatasync", unix.Fdatasync(999), "syncfs", unix.Syncfs(999),
		"range", unix.SyncFileRange(999, 0, 1, 0), "close", unix.Close(999), "msync", unix.Msync(page[1:], unix.MS_SYNC), unix.Msync(page[1:], unix.MS_ASYNC))
	return 0
}

func TestSyncIsAnsweredAtOnce(t *testing.T) { testenv.AsBoth(t, testSyncIsAnsweredAtOnce) }

func testSyncIsAnsweredAtOnce(t *testing.T) {
	if len(syscallTables()) == 0 {
		t.Skip("not possible here: no system call table for this architecture")
	}
	root := newRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	spec := hostSpec(root, "/run/probe")
	spec.Binds = append(spec.Binds, Bind{Source: self, Target: "/run/probe", ReadOnly: true})
	spec.Env = []string{"SANDBOX_TEST=probe"}
	spec.Stdout, spec.Stderr = &out, &out
	if err := Run(t.Context(), spec); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	want := "fsync <nil> fdatasync <nil> syncfs <nil> range <nil> close bad file descriptor msync <nil> invalid argument\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestFailures(t *testing.T) { testenv.AsBoth(t, testFailures) }

func testFailures(t *testing.T) {
	root := newRoot(t)
	var exit *command.ExitError
	err := Run(t.Context(), hostSpec(root, "sh", "-c", "echo reason; exit 5"))
	if !errors.As(err, &exit) || exit.Code != 5 || exit.Output != "reason" || !strings.Contains(err.Error(), root) {
		t.Errorf("exit code: %v", err)
	}
	err = Run(t.Context(), hostSpec(root, "sh", "-c", "kill -9 $$"))
	if !errors.As(err, &exit) || exit.Signal != "killed" {
		t.Errorf("signal: %v", err)
	}
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{hostSpec(root, "no-such-program"), "the root tree has no program no-such-program"},
		{hostSpec(filepath.Join(root, "nowhere"), "true"), "no such file"},
		{hostSpec(root), "no program is given"},
		{Spec{Root: root, Args: []string{"sh"}, Files: []File{{Path: "/etc/x"}}}, "only /run and /tmp"},
		{Spec{Root: root, Args: []string{"sh"}, Files: []File{{Path: "/run/../etc/x"}}}, "only /run and /tmp"},
		{Spec{Root: root, Args: []string{"sh"}, Binds: []Bind{{Source: "/nowhere", Target: "/run/x"}}}, "/nowhere"},
	} {
		err := Run(t.Context(), test.spec)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: error %v", test.want, err)
		}
	}
}

func TestFilesAndNetwork(t *testing.T) { testenv.AsBoth(t, testFilesAndNetwork) }

func testFilesAndNetwork(t *testing.T) {
	root := newRoot(t)
	var out bytes.Buffer
	spec := hostSpec(root, "sh", "-c", "cat /run/x/secret; stat -c %a /run/x/secret; ls /sys/class/net 2>/dev/null | wc -l; cat /proc/net/dev | grep -c :; cat; pwd; echo $A")
	spec.Files = []File{{Path: "/run/x/secret", Data: bytes.Repeat([]byte("0123456789abcdef"), 10000), Perm: 0o640}}
	spec.NoNetwork, spec.Dir, spec.Env = true, "/etc", []string{"A=b"}
	spec.Stdin, spec.Stdout, spec.Stderr = strings.NewReader("input\n"), &out, &out
	if err := Run(t.Context(), spec); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	got := strings.TrimPrefix(out.String(), string(spec.Files[0].Data))
	lines := strings.Split(got, "\n")
	if len(lines) != 7 || lines[0] != "640" || lines[2] != "1" || lines[3] != "input" || lines[4] != "/etc" || lines[5] != "b" {
		t.Errorf("%q", lines)
	}
}

// TestKilled kills the program that runs the sandbox, and cancels one, and looks for what is left.
func TestKilled(t *testing.T) { testenv.AsBoth(t, testKilled) }

func testKilled(t *testing.T) {
	root := newRoot(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "SANDBOX_TEST=victim", "SANDBOX_ROOT="+root)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, filepath.Join(root, "started"))
	inside := processesIn(t, root)
	if len(inside) < 3 {
		t.Errorf("processes inside: %v", inside)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range inside {
		testenv.NoProcess(t, pid)
	}
	// The next sandbox puts right what the killed one left.
	put(t, filepath.Join(root, "etc/hosts"), "own\n")
	shell(t, root, "true")
	if entries, err := os.ReadDir(filepath.Join(root, "usr/sbin")); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}

	if err := os.Remove(filepath.Join(root, "started")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, hostSpec(root, "sh", "-c", "sleep 1000 & echo x > /started; wait")) }()
	await(t, filepath.Join(root, "started"))
	inside = processesIn(t, root)
	stop := errors.New("stopped by the user")
	cancel(stop)
	select {
	case err := <-done:
		if !errors.Is(err, stop) {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it did not stop")
	}
	for _, pid := range inside {
		testenv.NoProcess(t, pid)
	}
}

func await(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return
		}
	}
	t.Fatalf("%s did not appear", path)
}

// processesIn returns the processes whose root directory is root.
func processesIn(t *testing.T, root string) []string {
	t.Helper()
	var want unix.Stat_t
	if err := unix.Stat(root, &want); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		var got unix.Stat_t
		if unix.Stat("/proc/"+e.Name()+"/root", &got) == nil && got.Ino == want.Ino && got.Dev == want.Dev {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

// TestFreshPrograms runs programs that were written just now, while other programs are started, which have for a moment what this process has open.
func TestFreshPrograms(t *testing.T) {
	testenv.NeedRoot(t)
	root := newRoot(t)
	ctx, stop := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for ctx.Err() == nil {
				_ = command.Run(ctx, command.Cmd{Name: "true"}) // only that it is started counts
			}
		})
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		first, second := fmt.Sprint("/root/first", i), fmt.Sprint("/root/second", i)
		write(second, "exit 0")
		write(first, second)
		if err := Run(t.Context(), hostSpec(root, first)); err != nil {
			t.Error(err)
		}
	}
	stop()
	starting.Wait()
	write("/root/late", "exit 0")
	busy, err := os.OpenFile(filepath.Join(root, "root/late"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { busy.Close() })
	if err := Run(t.Context(), hostSpec(root, "/root/late")); err != nil {
		t.Error(err)
	}
}
