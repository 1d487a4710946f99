package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/registry/store"
)

// keep puts what the first group of a pattern matches in the last output into a variable: keep NAME PATTERN
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep name pattern")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	found := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) < 2 {
		ts.Fatalf("no match for the group of %q", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// jsonLines checks that every line of a file is a JSON object that has the given key: jsonlines FILE KEY
func jsonLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jsonlines file key")
	}
	lines := 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		lines++
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("line %d of %s, %q: %v", lines, args[0], line, err)
		}
		if _, ok := object[args[1]]; !ok {
			ts.Fatalf("line %d of %s has no %q: %s", lines, args[0], args[1], line)
		}
	}
	if lines == 0 {
		ts.Fatalf("%s is empty", args[0])
	}
}

// equal checks that two files of two directories hold the same bytes: equal DIR DIR FILE...
func equal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: equal dir dir file...")
	}
	for _, name := range args[2:] {
		one, err := os.ReadFile(ts.MkAbs(filepath.Join(args[0], name)))
		ts.Check(err)
		other, err := os.ReadFile(ts.MkAbs(filepath.Join(args[1], name)))
		ts.Check(err)
		if !bytes.Equal(one, other) {
			ts.Fatalf("%s differs between %s and %s", name, args[0], args[1])
		}
	}
}

// storeIntact checks every blob and index of the transcript's store.
func storeIntact(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: store-intact")
	}
	s, err := store.Open(ts.Getenv("IMGBUILD_STORE"), store.Options{})
	ts.Check(err)
	defer s.Close()
	damages, err := s.Verify(ts.Value(testKey{}).(*testing.T).Context())
	ts.Check(err)
	if len(damages) > 0 {
		ts.Fatalf("the store is damaged: %v", damages)
	}
}

// startRegistry runs docker-registry until the transcript ends and puts its host:port into a variable:
// registry NAME [-login USER PASSWORD] [-address IP] [-as HOST]. With -as it is what imgbuild and podman take that host for.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry name [-login user password] [-address ip] [-as host]")
	}
	name, address, auth, alias := args[0], "127.0.0.1", "", ""
	dir := ts.MkAbs("registry-" + name)
	ts.Check(os.MkdirAll(dir, 0o755))
	for rest := args[1:]; len(rest) > 1; rest = rest[2:] {
		switch rest[0] {
		case "-address":
			address = rest[1]
		case "-as":
			alias = rest[1]
		case "-login":
			lines, err := exec.Command("htpasswd", "-nbB", rest[1], rest[2]).Output()
			ts.Check(err)
			ts.Check(os.WriteFile(filepath.Join(dir, "htpasswd"), lines, 0o644))
			auth = fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", filepath.Join(dir, "htpasswd"))
			rest = rest[1:]
		}
	}
	listener, err := net.Listen("tcp", address+":0")
	ts.Check(err)
	host := listener.Addr().String()
	ts.Check(listener.Close())
	if alias != "" {
		ts.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(dir, "registries.conf"))
		ts.Check(os.WriteFile(ts.Getenv("CONTAINERS_REGISTRIES_CONF"), fmt.Appendf(nil, "[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n", alias, host), 0o644))
	}
	config := filepath.Join(dir, "config.yml")
	ts.Check(os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n%s",
		filepath.Join(dir, "data"), host, auth), 0o644))
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.SysProcAttr = diesWithTest()
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	})
	for range 200 {
		if conn, err := net.DialTimeout("tcp", host, time.Second); err == nil {
			ts.Check(conn.Close())
			ts.Setenv(name, host)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("docker-registry does not answer on %s", host)
}

// login writes a login file as podman login does: login FILE HOST USER PASSWORD
func login(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: login file host user password")
	}
	secret := base64.StdEncoding.EncodeToString([]byte(args[2] + ":" + args[3]))
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o700))
	ts.Check(os.WriteFile(file, fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, args[1], secret), 0o600))
}

// podmanStorage gives podman and imgbuild a storage of the transcript's own: podman-storage DRIVER
// Podman refuses long paths, so it lies outside of the transcript's directory.
func podmanStorage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: podman-storage driver")
	}
	dir, err := os.MkdirTemp("/tmp", "ib")
	ts.Check(err)
	ts.Defer(func() { removeStorage(ts, dir) })
	ts.Check(os.Mkdir(dir+"/user", 0o700))
	ts.Setenv("XDG_RUNTIME_DIR", dir+"/user")
	ts.Setenv("HOME", dir+"/home")
	config := fmt.Sprintf("[storage]\ndriver = %q\n", args[0])
	file := dir + "/home/.config/containers/storage.conf"
	if os.Getuid() == 0 { // an ordinary user's is below the home directory anyway
		config += fmt.Sprintf("graphroot = %q\nrunroot = %q\n", dir+"/root", dir+"/run")
		ts.Setenv("CONTAINERS_STORAGE_CONF", file)
	}
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, []byte(config), 0o644))
}

// removeStorage removes a storage of podman's with what podman leaves mounted and running.
func removeStorage(ts *testscript.TestScript, dir string) {
	if os.Getuid() != 0 { // the files belong to subordinate ids
		rm := exec.Command("podman", "unshare", "rm", "-rf", dir+"/home/.local")
		rm.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + dir + "/user"}
		if out, err := rm.CombinedOutput(); err != nil {
			ts.Logf("removing podman's storage: %v: %s", err, out)
		}
		endPause(ts, dir+"/user/libpod/tmp/pause.pid")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
				if err := unix.Unmount(fields[4], unix.MNT_DETACH); err != nil {
					ts.Logf("unmounting %s: %v", fields[4], err)
				}
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		ts.Logf("removing podman's storage: %v", err)
	}
}

// endPause ends the process that podman leaves behind to keep an ordinary user's namespaces.
func endPause(ts *testscript.TestScript, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		return // podman was not run
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 2 {
		ts.Logf("podman's pause process is %q", data)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		ts.Logf("ending podman's pause process: %v", err)
	}
}

// diesWithTest lets a process end when the test binary does.
func diesWithTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// pushIndex puts containers for two machines behind one name of a registry: push-index HOST:PORT/NAME:TAG
func pushIndex(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: push-index reference")
	}
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		config, err := empty.Image.ConfigFile()
		ts.Check(err)
		config = config.DeepCopy()
		config.OS, config.Architecture = "linux", arch
		image, err := mutate.ConfigFile(empty.Image, config)
		ts.Check(err)
		layer, err := random.Layer(1000, types.OCILayer)
		ts.Check(err)
		image, err = mutate.AppendLayers(image, layer)
		ts.Check(err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	tag, err := name.NewTag(args[0])
	ts.Check(err)
	ts.Check(remote.WriteIndex(tag, index))
}
