package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// freePort returns a TCP port of this machine that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// fetch gets a page from a server that comes up by and by.
func fetch(ctx context.Context, url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	for {
		answer, err := client.Get(url)
		if err == nil {
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			return string(body), err
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// TestContainerBecomesAWebServer runs the commands of the documents: a container with nginx becomes a machine, whose nginx answers.
func TestContainerBecomesAWebServer(t *testing.T) {
	k := wholeBuild(t)
	testenv.NeedRealRoot(t) // once is enough: the machine does not ask who has made it
	testenv.NeedProgram(t, "qemu-system-x86_64")
	commands := documented(t, "containers-into-vms.md", "A web server, from packages to HTTP")
	if len(commands) != 4 {
		t.Fatalf("the documents have %q", commands)
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(examples, filepath.Join(k.dir, "examples")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	shell := func(line string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", "exec "+strings.ReplaceAll(line, "8080", port))
		cmd.Dir = k.dir
		cmd.Env = append(k.command().Env, "PATH="+k.dir+":"+os.Getenv("PATH"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		return cmd
	}
	for _, line := range commands[:2] {
		start := time.Now()
		if out, err := shell(line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		t.Logf("%v: %s", time.Since(start).Round(100*time.Millisecond), line)
	}
	var console bytes.Buffer
	machine := shell(commands[2])
	machine.Stdout, machine.Stderr = &console, &console
	start := time.Now()
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- machine.Wait()
		cancel()
	}()
	_, url, _ := strings.Cut(commands[3], " ")
	page, err := fetch(ctx, strings.ReplaceAll(url, "8080", port))
	t.Logf("answered after %v", time.Since(start).Round(100*time.Millisecond))
	if interrupting := machine.Process.Signal(os.Interrupt); interrupting != nil {
		t.Error(interrupting)
	}
	<-ended // interrupted
	if err != nil || !strings.Contains(page, "This container has become a machine.") {
		t.Fatalf("the machine answers %q, %v; its console:\n%s", page, err, console.Bytes())
	}
	k.nothingLeft()
}

// TestBootArm64 builds the example for another architecture and boots it, as anybody would.
func TestBootArm64(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	k := wholeBuild(t)
	testenv.NeedRealRoot(t)
	testenv.NeedPrograms(t, "qemu-system-aarch64", "qemu-aarch64-static")
	testenv.NeedFile(t, "/usr/share/AAVMF/AAVMF_CODE.fd")
	start := time.Now()
	k.must("build", "--description", "../../examples/debian-from-packages", "--target-dir", filepath.Join(k.dir, "out"), "--target-arch", "aarch64",
		"--set-type-attr", "kernelcmdline=net.ifnames=0 console=ttyAMA0")
	t.Logf("built in %v", time.Since(start).Round(time.Second))
	out := k.must("boot", filepath.Join(k.dir, "out/Debian-Server.aarch64-1.0.0.qcow2"), "--expect", "login:", "--timeout", "15m", "--password", "linux",
		"--run", "uname -m", "--run", "findmnt -n -o FSTYPE /", "--run", "ls /sys/firmware/efi")
	t.Logf("done after %v", time.Since(start).Round(time.Second))
	for _, want := range []string{"aarch64\n", "ext4\n", "systab"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
}
