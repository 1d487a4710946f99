// Package apk installs and removes packages of a root tree with Alpine Linux's apk.
//
// apk runs in the root tree if it is there, and else outside, with the tree as its root. Its list of repositories, keys, indexes and downloads lie outside of the
// tree. Packages are downloaded into apk's cache first, compared with the lock, and installed without a network. Passwords reach apk in a file that exists in the
// sandbox's memory only.
//
// The command lines and the formats are those that apk documents for its versions 2.12 to 3.
package apk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Where things lie inside of the sandbox.
const (
	insideDir   = "/run/imgbuild/apk"              // the session's directory
	insideCache = "/run/imgbuild/apk-cache"        // apk's cache
	insideRepos = "/run/imgbuild/apk-repositories" // in memory
)

// Session is apk at work on one root tree.
type Session struct {
	*packages.Work
	cache     string // on this machine: the session's own, or that of all builds
	lines     []line
	keys      bool // the description has some
	refreshed bool
	index     []indexed
}

var _ packages.Session = (*Session)(nil)

// line is one line of apk's list of repositories.
type line struct {
	repo    repositories.Repository
	address string // without secrets
}

// Open prepares a session.
func Open(ctx context.Context, opts packages.Options) (packages.Session, error) {
	work, err := packages.Begin("apk", opts, "keys")
	if err != nil {
		return nil, err
	}
	s := &Session{Work: work, cache: filepath.Join(work.Dir, "cache")}
	if opts.Cache != "" {
		s.cache = filepath.Join(opts.Cache, "apk")
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare fills the session's directory.
func (s *Session) prepare(ctx context.Context) error {
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return fmt.Errorf("preparing apk: %w", err)
	}
	for _, r := range s.Repositories.List {
		addresses, err := s.addresses(ctx, r)
		if err != nil {
			return err
		}
		for _, address := range addresses {
			s.lines = append(s.lines, line{r, address})
		}
		for _, key := range r.NamedKeys {
			s.keys = true
			if err := os.WriteFile(filepath.Join(s.Dir, "keys", key.Name), key.Data, 0o644); err != nil {
				return fmt.Errorf("preparing apk: %w", err)
			}
		}
	}
	return nil
}

// addresses are the lines of a repository: its address with the distribution, if one is given, and a line for each component. The best mirror of a list counts.
func (s *Session) addresses(ctx context.Context, r repositories.Repository) ([]string, error) {
	mirrors, err := r.Mirrors(ctx, nil)
	if err != nil {
		return nil, err
	}
	lines := repositoryLines(r, mirrors[0])
	if r.Description.Customize == "" {
		return lines, nil
	}
	p, _, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	data, err := r.Customize(ctx, repositories.CustomizeOptions{
		Files: s.Files, Run: p.Run, Workdir: s.Dir, Name: r.Alias + ".list", Data: []byte(strings.Join(lines, "\n") + "\n"),
	})
	return slices.Collect(strings.FieldsFuncSeq(string(data), func(c rune) bool { return c == '\n' })), err
}

// repositoryLines are the lines of a repository at an address.
func repositoryLines(r repositories.Repository, address string) []string {
	address = strings.TrimRight(address, "/")
	if r.Description.Distribution != "" {
		address += "/" + r.Description.Distribution
	}
	if len(r.Description.Components) == 0 {
		return []string{address}
	}
	var lines []string
	for _, component := range r.Description.Components {
		lines = append(lines, address+"/"+component)
	}
	return lines
}

// find returns the place where apk runs once there may be one in the tree.
func (s *Session) find(ctx context.Context) (packages.Place, *layers.Tree, error) {
	return s.Find(ctx, "sbin/apk", "usr/bin/apk", "usr/sbin/apk")
}

// relative is a path of the sandbox as apk wants some: relative to the root directory that it works on.
func relative(p packages.Place, path string) string {
	if p.Root == "" {
		return path
	}
	return strings.Repeat("../", strings.Count(p.Root, "/")) + strings.TrimPrefix(path, "/")
}

// architecture is apk's name of an architecture that uname -m names.
func architecture(machine string) string {
	switch machine {
	case "i386", "i486", "i586", "i686":
		return "x86"
	case "armv6l":
		return "armhf"
	case "armv7l", "armv7hl":
		return "armv7"
	}
	return machine
}

// untrusted reports whether signatures are not to be checked. apk has one switch for all repositories.
func (s *Session) untrusted() bool {
	off := 0
	for _, r := range s.Repositories.List {
		d := r.Description
		if d.PackageGPGCheck != description.True && d.RepoGPGCheck != description.True && (d.PackageGPGCheck == description.False || d.RepoGPGCheck == description.False) {
			off++
		}
	}
	if all := len(s.Repositories.List); off > 0 && off < all {
		for _, r := range s.Repositories.List {
			if r.Description.PackageGPGCheck == description.False || r.Description.RepoGPGCheck == description.False {
				s.Log.Warn("apk checks the signatures of all repositories or of none: they are checked", "at", r.Description.Pos.String(), "repository", r.String())
			}
		}
		return false
	}
	return off > 0
}

// job is one run of apk.
type job struct {
	args     []string // the command and what follows it
	network  bool
	no       bool                  // no repositories at all
	wanted   []description.Package // to point errors at
	progress progress.Task         // counts changes; nil is none
}

// arguments is apk's command line for a job.
func (s *Session) arguments(p packages.Place, j job) []string {
	args := []string{
		"apk", "--root", p.Root + "/", "--arch", architecture(s.Arch), "--cache-dir", relative(p, insideCache), "--no-progress",
	}
	switch {
	case j.no:
		args = append(args, "--repositories-file", "/dev/null")
	case len(s.lines) > 0:
		args = append(args, "--repositories-file", insideRepos)
	}
	switch {
	case s.keys:
		args = append(args, "--keys-dir", relative(p, insideDir+"/keys"))
	case p.Root != "":
		// Those that the distribution of this machine or of the builder container has brought along.
		args = append(args, "--keys-dir", relative(p, "/usr/share/apk/keys/"+architecture(s.Arch)))
	}
	if s.untrusted() {
		args = append(args, "--allow-untrusted")
	}
	if !j.network {
		args = append(args, "--no-network")
	}
	return append(args, j.args...)
}

// run runs apk and returns the lines that it printed.
func (s *Session) run(ctx context.Context, p packages.Place, j job) ([]string, error) {
	if s.Offline {
		j.network = false
	}
	set := s.Repositories
	var lines []string
	out := packages.NewOutput(s.Log, "apk", set.Secrets, func(text string) {
		lines = append(lines, text)
		if _, ok := parseChange(text); ok && j.progress != nil {
			j.progress.Add(1)
		}
	})
	var list bytes.Buffer
	for _, l := range s.lines {
		list.WriteString(l.repo.WithCredentials(l.address) + "\n")
	}
	err := p.Run(ctx, sandbox.Spec{
		Args: s.arguments(p, j), Title: "apk " + j.args[0], NoNetwork: !j.network, HostNames: j.network, Redact: set.Secrets, Log: s.Log, Stdout: out, Stderr: out,
		Binds: append([]sandbox.Bind{{Source: s.Dir, Target: insideDir, ReadOnly: true}, {Source: s.cache, Target: insideCache}}, set.Binds...),
		Files: append([]sandbox.File{{Path: insideRepos, Data: list.Bytes(), Perm: 0o600}}, set.Files...),
	})
	out.Flush()
	if err != nil {
		return nil, s.explain(err, out, lines, j.wanted)
	}
	return lines, nil
}

// Bootstrap installs packages from outside.
func (s *Session) Bootstrap(ctx context.Context, set description.PackageSet) error {
	return s.install(ctx, s.Elsewhere(), set)
}

// Install installs packages that are not there yet.
func (s *Session) Install(ctx context.Context, set description.PackageSet) error {
	p, _, err := s.find(ctx)
	if err != nil {
		return err
	}
	return s.install(ctx, p, set)
}

// Update brings all packages of the tree up to what the repositories have.
func (s *Session) Update(ctx context.Context) error {
	p, _, err := s.find(ctx)
	if err != nil {
		return err
	}
	if err := s.refresh(ctx, p); err != nil {
		return err
	}
	return s.transact(ctx, p, "updating packages", nil, []string{"upgrade"})
}

// Uninstall removes packages with what depends on them and with what was only installed for them.
func (s *Session) Uninstall(ctx context.Context, list []description.Package) error {
	p, tree, err := s.find(ctx)
	if err != nil {
		return err
	}
	return s.remove(ctx, p, "removing packages", present(tree, list), list, "--rdepends")
}

// remove removes packages by apk del.
func (s *Session) remove(ctx context.Context, p packages.Place, what string, names []string, wanted []description.Package, options ...string) error {
	if len(names) == 0 {
		return nil
	}
	task := s.Progress.Start(what, 0, progress.Items)
	err := s.keepingNoLog(ctx, func() error {
		_, err := s.run(ctx, p, job{args: slices.Concat([]string{"del"}, options, names), wanted: wanted, progress: task})
		return err
	})
	task.Done(err)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// keepingNoLog does something, and removes the log that apk 3 begins in the root tree.
func (s *Session) keepingNoLog(ctx context.Context, do func() error) error {
	const log = "/var/log/apk.log"
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if _, _, err := tree.Resolve(log[1:]); err == nil {
		return nil
	}
	return s.Outside(ctx, sandbox.Spec{Args: []string{"rm", "-f", packages.TargetDir + log}, NoNetwork: true, Log: s.Log})
}
