package zypper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// Where a session's files lie in a sandbox. What has secrets, or is made anew for each run, exists in the sandbox's memory only.
const (
	sessionDir  = "/run/imgbuild/zypper" // the session's directory on this machine
	memoryDir   = "/run/imgbuild/zypper-settings"
	configFile  = memoryDir + "/zypp.conf"
	toolFile    = memoryDir + "/zypper.conf"
	locksFile   = memoryDir + "/locks"
	reposDir    = memoryDir + "/repos.d"
	secretsDir  = memoryDir + "/credentials.d"
	simulateDir = sessionDir + "/root" // an install root whose changes nobody keeps
)

// The parts of the session's directory.
const (
	rawDir      = "cache/raw"
	solvDir     = "cache/solv"
	packagesDir = "cache/packages"
	logDir      = "log"
)

// place is where zypper runs, and on which root directory it works.
type place struct {
	run    func(ctx context.Context, spec sandbox.Spec) error
	root   string // as the program sees it, "" for its own
	dbpath string // of rpm's database below it
	config []byte // the tree's own zypp.conf, where its own zypper runs
	kind   string // which zypper it is: each has lists in a form of its own
	arch   string // of the packages, where it is not that of the machine
}

// place is the root tree itself, if it has zypper, or else outside.
func (s *Session) place(ctx context.Context) (place, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return place{}, err
	}
	if scripts.FindProgram(tree, "zypper") == "" {
		return s.outside(ctx)
	}
	p := place{run: s.Inside, dbpath: rpm.DatabasePath(tree, rpm.SystemPath), kind: "inside"}
	for _, name := range []string{"etc/zypp/zypp.conf", "usr/etc/zypp/zypp.conf"} {
		const limit = 1 << 20
		if data, err := tree.ReadFile(name, limit); err == nil {
			p.config = data
			break
		}
	}
	return p, nil
}

// outside is this machine or a builder container, with the root tree in view.
func (s *Session) outside(ctx context.Context) (place, error) {
	if s.Own() {
		return place{}, s.Image.Errorf("", `add <repository type="rpm-md"> elements`, "packages can't be installed from outside of the root tree, because the description has no repository")
	}
	tree, err := s.Tree(ctx)
	if err != nil {
		return place{}, err
	}
	p := s.outsideOf(tree)
	return p, rpm.CheckReadable(ctx, rpm.ReadableOptions{Tree: tree, Run: p.run, Root: p.root, Log: s.Log})
}

// simulated is a place like p whose changes nobody keeps: its root directory has the tree's database of packages and nothing else.
func (s *Session) simulated(ctx context.Context, p place) (place, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return place{}, err
	}
	dbpath := rpm.DatabasePath(tree, rpm.SystemPath)
	root := filepath.Join(s.Dir, filepath.Base(simulateDir))
	if err := os.RemoveAll(root); err != nil {
		return place{}, err
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return place{}, err
		}
	}
	for _, dir := range []string{dbpath, "/etc/products.d", "/var/lib/zypp"} {
		if err := copyDir(tree, layers.Clean(dir), root); err != nil {
			return place{}, fmt.Errorf("copying the package database: %w", err)
		}
	}
	p.root, p.dbpath = simulateDir, dbpath
	return p, nil
}

// copyDir copies the files of one directory of a tree, if there is one, below root on this machine.
func copyDir(tree *layers.Tree, dir, root string) error {
	if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
		return err
	}
	_, node, err := tree.Resolve(dir)
	if err != nil || !node.IsDir() {
		return nil //nolint:nilerr // it is not there
	}
	for _, name := range node.Names() {
		child := node.Child(name)
		if !child.IsRegular() {
			continue
		}
		const limit = 2 << 30
		data, err := tree.ReadFile(dir+"/"+name, limit)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// request is one run of zypper.
type request struct {
	command   []string
	globals   []string // options before the command
	set       description.PackageSet
	noNetwork bool
	line      func(line string) // takes each line of the output, if it is not nil
}

// step tells the lines that zypper prints for each package that it installs.
func step() *regexp.Regexp { return regexp.MustCompile(`^\(\d+/\d+\) Installing: `) }

// run runs zypper. Its failure is explained. The output is returned even then, if there is any.
func (s *Session) run(ctx context.Context, p place, r request) (*packages.Output, error) {
	out := s.Output("zypper", r.line)
	spec, err := s.spec(ctx, p, r)
	if err != nil {
		return nil, err
	}
	spec.Stdout, spec.Stderr = out, out
	err = p.run(ctx, spec)
	out.Flush()
	return out, s.explain(ctx, success(err), out, r.set)
}

// success is nil for the exit codes by which zypper says that all went well (zypper(8), EXIT CODES): that there are updates, that the machine should
// be restarted, or that a package's script failed, which is in the log.
func success(err error) error {
	var exit *command.ExitError
	if errors.As(err, &exit) && exit.Signal == "" {
		switch exit.Code {
		case 100, 101, 102, 103, 107:
			return nil
		}
	}
	return err
}

// spec is a run of zypper that sees the session.
func (s *Session) spec(ctx context.Context, p place, r request) (sandbox.Spec, error) {
	repos, err := s.repositoryFiles(ctx, p)
	if err != nil {
		return sandbox.Spec{}, err
	}
	args := []string{"zypper", "--non-interactive", "--no-color", "--config", toolFile}
	if !s.Own() {
		args = append(args, "--reposd-dir", reposDir)
	}
	for option, dir := range map[string]string{"--cache-dir": "cache", "--raw-cache-dir": rawDir, "--solv-cache-dir": solvDir + "/" + p.kind, "--pkg-cache-dir": packagesDir} {
		args = append(args, option, sessionDir+"/"+dir)
	}
	if p.root != "" {
		args = append(args, "--installroot", p.root)
	}
	if release := s.Image.ReleaseVersion; release != "" && release != "0" {
		args = append(args, "--releasever", release)
	}
	args = append(append(args, r.globals...), r.command...)
	spec := s.base(p, args...)
	spec.Title = "zypper " + r.command[0]
	spec.NoNetwork = r.noNetwork || s.Offline
	spec.Files = append(append(spec.Files, repos...),
		sandbox.File{Path: configFile, Data: s.configuration(p, r.set), Perm: 0o644},
		sandbox.File{Path: toolFile, Data: []byte("[main]\n"), Perm: 0o644},
		// zypper puts the root directory before the path of this file.
		sandbox.File{Path: p.root + locksFile, Data: s.locks(r.set), Perm: 0o644})
	return spec, nil
}

// base is a run of zypper or rpm in a place.
func (s *Session) base(p place, args ...string) sandbox.Spec {
	spec := sandbox.Spec{
		Args: args, HostNames: true, Env: []string{"ZYPP_CONF=" + configFile, "ZYPP_LOGFILE=" + sessionDir + "/" + logDir + "/zypper.log", "ZYPPTMPDIR=/tmp"},
	}
	s.Show(&spec, sessionDir)
	rpm.Configure(&spec, rpm.Macros(p.dbpath, s.Image.RPM, s.Image.Locales))
	if p.arch != "" {
		rpm.Accept(&spec, p.arch)
	}
	return spec
}
