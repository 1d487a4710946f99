// Package apt installs and removes packages of a root tree with the tree's own apt and dpkg, run in the sandbox.
//
// The repositories come from the description and apt's state for them lies outside of the tree, so that the image's own sources, lists and
// cache stay as they are and nothing of the build is left behind. Secrets reach apt through a file that exists in the sandbox's memory only.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Where things lie inside of the sandbox.
const (
	insideDir   = "/run/imgbuild/apt"  // the session's directory on the host
	insideAuth  = "/run/imgbuild/auth" // in memory
	insideRepos = "/run/imgbuild/repositories"
	standInDir  = "/run/imgbuild/bin" // comes first in the sandbox's PATH
)

// Options are what a session works with.
type Options struct {
	// Image says which repositories there are.
	Image *description.Image
	// Files has the description's files, for keys and repositories that lie beside it.
	Files files.Source
	// Tree is the root tree as it is now; it is looked at only.
	Tree *layers.Tree
	// Run runs a program in the root tree.
	Run func(ctx context.Context, spec sandbox.Spec) error
	// Workdir is an existing directory in which the session makes one of its own.
	Workdir string
	// Cache is a directory for downloaded packages that later builds use again; "" is none.
	Cache string
	// Progress shows what apt does; Log gets its output.
	Progress progress.Reporter
	Log      *slog.Logger
}

// Session is a set of repositories whose lists have been, or can be, fetched.
type Session struct {
	opts    Options
	dir     string
	sources sources
	updated bool
}

// Open prepares a session: it finds the repositories and their keys. The caller closes it.
func Open(ctx context.Context, opts Options) (*Session, error) {
	if _, _, err := opts.Tree.Resolve("usr/bin/apt-get"); err != nil {
		return nil, errors.New("installing packages: the root tree has no apt-get; start from a container that has it, such as debian:12, or add a container with the packages to the stack")
	}
	src, err := findSources(ctx, opts)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(opts.Workdir, ".apt-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for apt: %w", err)
	}
	s := &Session{opts: opts, dir: dir, sources: src}
	if err := s.write(); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing apt: %w", err), s.Close())
	}
	return s, nil
}

// Close removes what the session has on the host.
func (s *Session) Close() error { return os.RemoveAll(s.dir) }

// write fills the session's directory.
func (s *Session) write() error {
	if err := os.Chmod(s.dir, 0o755); err != nil { // apt's downloads run as a user of their own
		return err
	}
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "log", "sources.list.d", "keys", "none"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return err
		}
	}
	all := map[string][]byte{"apt.conf": []byte(s.configuration()), "preferences": []byte(s.sources.preferences)}
	for name, text := range s.sources.files {
		all["sources.list.d/"+name] = text
	}
	for name, key := range s.sources.keys {
		all["keys/"+name] = key
	}
	for name, data := range all {
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// configuration is what apt.conf(5) says for this session; given by -c it counts more than what the tree has in /etc/apt/apt.conf.d.
func (s *Session) configuration() string {
	settings := [][2]string{
		{"Dir::State::lists", insideDir + "/lists"},
		{"Dir::Cache", insideDir + "/cache"},
		{"Dir::Cache::archives", "archives"},
		{"Dir::Cache::pkgcache", "pkgcache.bin"},
		{"Dir::Cache::srcpkgcache", ""},
		{"Dir::Log", insideDir + "/log"},
		{"Dir::Etc::netrc", insideAuth + "/auth.conf"},
		{"Dir::Etc::netrcparts", insideDir + "/none"},
		{"Acquire::Languages", "none"},
		{"Acquire::Retries", "3"},
		{"Acquire::PDiffs", "false"},
		{"Acquire::ForceHash", "sha256"}, // --print-uris tells that one
		{"Acquire::http::Timeout", "60"},
		{"APT::Update::Error-Mode", "any"},
		{"APT::Keep-Downloaded-Packages", "true"},
		{"APT::Get::Assume-Yes", "true"},
		{"APT::Get::HideAutoRemove", "true"},
		{"APT::Get::AllowUnauthenticated", "false"},
		{"Binary::apt-get::APT::Keep-Downloaded-Packages", "true"},
		{"Dpkg::Use-Pty", "false"},
		{"Dpkg::Options::", "--force-confdef"},
		{"Dpkg::Options::", "--force-confold"},
		{"Dpkg::Options::", "--force-unsafe-io"},
		{"Dpkg::Options::", "--log=" + insideDir + "/log/dpkg.log"},
	}
	if !s.sources.own {
		settings = append(settings, [][2]string{
			{"Dir::Etc::sourcelist", "/dev/null"},
			{"Dir::Etc::sourceparts", insideDir + "/sources.list.d"},
			{"Dir::Etc::preferences", insideDir + "/preferences"},
			{"Dir::Etc::preferencesparts", insideDir + "/none"},
		}...)
	}
	if len(s.sources.binds) > 0 {
		// The user that apt's downloads run as can't read what an ordinary user keeps in a home directory.
		settings = append(settings, [2]string{"APT::Sandbox::User", "root"})
	}
	var text strings.Builder
	for _, setting := range settings {
		fmt.Fprintf(&text, "%s %q;\n", setting[0], setting[1])
	}
	return text.String()
}

// spec is a run of a program of the tree that sees the session.
func (s *Session) spec(args ...string) sandbox.Spec {
	spec := sandbox.Spec{
		Args: args, HostNames: true, Redact: s.sources.secrets, Log: s.opts.Log,
		// The initial RAM disk is made once, at the end (update-initramfs(8) and the kernel's hooks obey INITRD).
		Env:   []string{"INITRD=No"},
		Binds: append([]sandbox.Bind{{Source: s.dir, Target: insideDir}}, s.sources.binds...),
		Files: []sandbox.File{{Path: insideAuth + "/auth.conf", Data: []byte(s.sources.auth), Perm: 0o644}},
	}
	// What belongs to a running machine with a disk of its own is done later, or by this program itself.
	for _, name := range []string{"update-initramfs", "update-grub", "grub-install", "flash-kernel"} {
		spec.Files = append(spec.Files, sandbox.File{Path: standInDir + "/" + name, Perm: 0o755, Data: []byte("#!/bin/sh\nexit 0\n")})
	}
	// An ssh server's keys must not be the same on all machines of an image.
	spec.Files = append(spec.Files, sandbox.File{
		Path: standInDir + "/ssh-keygen", Perm: 0o755, Data: []byte("#!/bin/sh\ncase \"$*\" in */etc/ssh/ssh_host_*) exit 0 ;; esac\nexec /usr/bin/ssh-keygen \"$@\"\n"),
	})
	return spec
}

// apt runs apt-get and shows what it does. The error is explained where its output tells.
func (s *Session) apt(ctx context.Context, task string, steps int64, packages []description.Package, args ...string) error {
	spec := s.spec(append([]string{"apt-get", "-q", "-c", insideDir + "/apt.conf"}, args...)...)
	spec.Title = "apt-get " + args[0]
	out := &output{task: s.opts.Progress.Start(task, steps, progress.Items), log: s.opts.Log, redact: s.sources.secrets}
	spec.Stdout, spec.Stderr = out, out
	err := s.opts.Run(ctx, spec)
	out.flush()
	if err == nil && args[0] == "update" && out.failedFetch() {
		err = errors.New("a repository could not be read")
	}
	if err != nil {
		err = s.explain(err, out, packages)
	}
	out.task.Done(err)
	return err
}

// Update fetches the lists of packages, once.
func (s *Session) Update(ctx context.Context) error {
	if s.updated {
		return nil
	}
	if err := s.listsFromCache(); err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.opts.Cache, err)
	}
	if err := s.apt(ctx, "fetching package lists", 0, nil, "update"); err != nil {
		return fmt.Errorf("fetching package lists: %w", err)
	}
	if err := s.listsToCache(); err != nil {
		return fmt.Errorf("filling the package cache %s: %w", s.opts.Cache, err)
	}
	s.updated = true
	return nil
}

// recommends is apt's option for packages that are recommended.
func recommends(wanted bool) string {
	if wanted {
		return "--install-recommends"
	}
	return "--no-install-recommends"
}

// Install installs packages with what they depend on.
func (s *Session) Install(ctx context.Context, packages []description.Package, recommended bool) error {
	if err := s.Update(ctx); err != nil {
		return err
	}
	downloads, _, err := s.resolve(ctx, packages, recommended)
	if err != nil {
		return err
	}
	if err := s.fromCache(downloads); err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.opts.Cache, err)
	}
	args := append([]string{"install", recommends(recommended), "--"}, description.Names(packages)...)
	task := fmt.Sprintf("installing %d packages", len(downloads))
	// Each package is unpacked and set up.
	if err := s.apt(ctx, task, int64(2*len(downloads)), packages, args...); err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	if err := s.toCache(downloads); err != nil {
		return fmt.Errorf("filling the package cache %s: %w", s.opts.Cache, err)
	}
	return nil
}

// Uninstall removes packages with what depends on them and with what was only installed for them.
func (s *Session) Uninstall(ctx context.Context, packages []description.Package) error {
	args := append([]string{"remove", "--auto-remove", "--"}, description.Names(packages)...)
	if err := s.apt(ctx, "removing packages", 0, packages, args...); err != nil {
		return fmt.Errorf("removing packages: %w", err)
	}
	return nil
}

// Delete removes packages by force: nothing else, whatever depends on them.
func (s *Session) Delete(ctx context.Context, packages []description.Package) error {
	spec := s.spec(append([]string{
		"dpkg", "--log=" + insideDir + "/log/dpkg.log", "--remove", "--force-remove-reinstreq", "--force-remove-essential", "--force-remove-protected", "--force-depends", "--",
	}, description.Names(packages)...)...)
	spec.Title = "dpkg --remove"
	out := &output{task: s.opts.Progress.Start("deleting packages", 0, progress.Items), log: s.opts.Log}
	spec.Stdout, spec.Stderr = out, out
	err := s.opts.Run(ctx, spec)
	out.flush()
	if err != nil {
		err = fmt.Errorf("deleting packages: %w", withOutput(err, out))
	}
	out.task.Done(err)
	return err
}

// output takes what apt prints: its lines go to the log, and its beginnings of work to the progress.
type output struct {
	task   progress.Task
	log    *slog.Logger
	redact []string
	part   []byte   // of a line
	lines  []string // the last ones
}

// keptLines is how many lines of output are kept to explain a failure.
const keptLines = 400

func (o *output) Write(p []byte) (int, error) {
	o.part = append(o.part, p...)
	for {
		i := bytes.IndexByte(o.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		o.line(string(o.part[:i]))
		o.part = o.part[i+1:]
	}
}

func (o *output) flush() {
	if len(o.part) > 0 {
		o.line(string(o.part))
		o.part = nil
	}
}

func (o *output) line(line string) {
	line = strings.TrimRight(line, "\r ")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:] // "Reading database ... 5%" rewrites its line
	}
	for _, secret := range o.redact {
		line = strings.ReplaceAll(line, secret, "***")
	}
	if line == "" {
		return
	}
	if strings.HasPrefix(line, "Unpacking ") || strings.HasPrefix(line, "Setting up ") {
		o.task.Add(1)
	}
	o.log.Debug("apt", "line", line)
	if o.lines = append(o.lines, line); len(o.lines) > keptLines {
		o.lines = append(o.lines[:0], o.lines[len(o.lines)-keptLines/2:]...)
	}
}

// failedFetch reports whether apt took a list that it could not fetch for a mere warning, as older versions do.
func (o *output) failedFetch() bool {
	for _, line := range o.lines {
		if strings.HasPrefix(line, "W: Failed to fetch") || strings.HasPrefix(line, "W: Some index files failed") {
			return true
		}
	}
	return false
}

var _ io.Writer = (*output)(nil)

// withOutput adds the end of the output to the failure of a program.
func withOutput(err error, o *output) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	exit.Output = strings.Join(o.lines[max(0, len(o.lines)-12):], "\n")
	return err
}
