// Package dnf installs and removes packages of a root tree with dnf4, dnf5 or microdnf.
//
// The programs run in the root tree if it has one of them, and else outside, with the tree as their install root. Their configuration, repositories, lists and
// downloads lie outside of the tree; what dnf keeps in it is what it keeps on a running machine: the rpm database, its history, and the state of modules.
// Packages are downloaded first, compared with the lock, and installed without a network. Secrets reach dnf through files that exist in the sandbox's memory only.
package dnf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Session is dnf at work on one root tree.
type Session struct {
	*packages.Work
	repoFiles []sandbox.File
	outsider  *tool           // found already
	ready     map[string]bool // flavors whose lists are there
	modules   bool            // they are switched
}

var _ packages.Session = (*Session)(nil)

// Open prepares a session. The flavor is the description's package manager.
func Open(_ context.Context, opts packages.Options) (packages.Session, error) {
	work, err := packages.Begin("dnf", opts, "cache", "index", "log", "none")
	if err != nil {
		return nil, err
	}
	return &Session{Work: work, ready: map[string]bool{}}, nil
}

// inside is the root tree's own program, or else one outside.
func (s *Session) inside(ctx context.Context) (tool, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return tool{}, err
	}
	t, ok := toolOf(tree, s.Image.PackageManager)
	if !ok {
		return s.outside(ctx, tree)
	}
	t.macros = s.macros(tree)
	return t, nil
}

// macros are rpm's settings for a root tree.
func (s *Session) macros(tree *layers.Tree) string {
	return rpm.Macros(rpm.DatabasePath(tree, rpm.VarPath), s.Image.RPM, s.Image.Locales)
}

// outside is a program of this machine or a builder container that works on the root tree, the flavor that the description names before others.
func (s *Session) outside(ctx context.Context, tree *layers.Tree) (tool, error) {
	if s.outsider == nil {
		t, err := s.findOutside(ctx)
		if err != nil {
			return tool{}, err
		}
		s.outsider = &t
	}
	t := *s.outsider
	t.macros = s.macros(tree)
	return t, s.readable(ctx, tree)
}

// readable makes sure that rpm can read the tree's database from outside.
func (s *Session) readable(ctx context.Context, tree *layers.Tree) error {
	return rpm.CheckReadable(ctx, rpm.ReadableOptions{Tree: tree, Run: s.Outside, Root: targetDir, Log: s.Log})
}

func (s *Session) findOutside(ctx context.Context) (tool, error) {
	if s.Own() {
		return tool{}, s.Image.Errorf("", `add <repository type="rpm-md"> elements`, "packages can't be installed from outside of the root tree, because the description has no repository")
	}
	var missing error
	for _, f := range family(s.Image.PackageManager) {
		for _, program := range f.programs {
			out := s.Output(program, nil)
			err := s.Outside(ctx, sandbox.Spec{Args: []string{program, "--version"}, Title: program + " --version", NoNetwork: true, Stdout: out, Stderr: out, Log: s.Log})
			var lacks *command.MissingError
			if errors.As(err, &lacks) {
				if missing == nil || program == "dnf" { // whose package is known
					missing = err
				}
				continue
			}
			var exit *command.ExitError // dnf4 fails where it can't write its log, but it is there
			if err != nil && !errors.As(err, &exit) {
				return tool{}, fmt.Errorf("asking for the version of %s: %w", program, err)
			}
			if f.name != s.Image.PackageManager {
				s.Log.Info("another program of the same family works in the place of the description's package manager", "package manager", s.Image.PackageManager, "program", program)
			}
			return tool{flavor: f, program: program, outside: true}, nil
		}
	}
	return tool{}, missing
}

// runner runs programs where the tool runs.
func (s *Session) runner(t tool) func(ctx context.Context, spec sandbox.Spec) error {
	if t.outside {
		return s.Outside
	}
	return s.Inside
}

// place is what the session's command lines depend on.
func (s *Session) place(t tool) (place, error) {
	p := place{own: s.Own()}
	if release := s.Image.ReleaseVersion; release != "" && release != "0" || t.outside {
		p.release = release
		if release == "" {
			p.release = "0" // as in KIWI
		}
	}
	if t.outside && s.Arch != "" && s.Arch != rpm.Machine() {
		if t.arch == "" {
			return place{}, fmt.Errorf("installing packages for %s on %s: %s can't do it from outside of the root tree; install dnf on this machine, or give a builder container that has it", s.Arch, rpm.Machine(), t.program)
		}
		p.arch = s.Arch
	}
	return p, nil
}

// request is one run of dnf.
type request struct {
	command   []string
	settings  settings
	noNetwork bool
	line      func(line string) // takes each line of the output, if it is not nil
}

// verb is the command without its options.
func (r request) verb() string {
	i := slices.IndexFunc(r.command, func(word string) bool { return !strings.HasPrefix(word, "-") })
	return r.command[max(0, i)]
}

// run runs dnf. Its failure is returned as it is, to be explained.
func (s *Session) run(ctx context.Context, t tool, r request) (*packages.Output, error) {
	p, err := s.place(t)
	if err != nil {
		return nil, err
	}
	repos, err := s.repositoryFiles(ctx, t)
	if err != nil {
		return nil, err
	}
	r.settings.rpm = s.Image.RPM
	out := s.Output(t.program, r.line)
	spec := sandbox.Spec{
		Args: t.arguments(p, r.command...), Title: t.program + " " + r.verb(), HostNames: true, NoNetwork: r.noNetwork || s.Offline, Stdout: out, Stderr: out,
		Files: append([]sandbox.File{{Path: configFile, Data: r.settings.configuration(), Perm: 0o644}, {Path: pluginDir + "/imgbuild.py", Data: []byte(plugin), Perm: 0o644}}, repos...),
	}
	s.Show(&spec, sessionDir)
	rpm.Configure(&spec, t.macros)
	if s.Own() { // a directory has to be there
		spec.Files = append(spec.Files, sandbox.File{Path: reposDir + "/none", Perm: 0o644})
	}
	err = s.runner(t)(ctx, spec)
	out.Flush()
	return out, err
}

// Bootstrap installs packages from outside.
func (s *Session) Bootstrap(ctx context.Context, set description.PackageSet) error {
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	t, err := s.outside(ctx, tree)
	if err != nil {
		return fmt.Errorf("installing the first packages: %w", err)
	}
	if err := s.transact(ctx, t, "install", set); err != nil {
		return err
	}
	if tree, err = s.Tree(ctx); err != nil {
		return err
	}
	return rpm.Settle(ctx, rpm.SettleOptions{Tree: tree, Inside: s.Inside, Log: s.Log})
}

// Install installs packages with the root tree's own program, or from outside if it has none.
func (s *Session) Install(ctx context.Context, set description.PackageSet) error {
	t, err := s.inside(ctx)
	if err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	return s.transact(ctx, t, "install", set)
}

// Update brings all packages up to what the repositories have.
func (s *Session) Update(ctx context.Context) error {
	t, err := s.inside(ctx)
	if err != nil {
		return fmt.Errorf("updating packages: %w", err)
	}
	return s.transact(ctx, t, "upgrade", description.PackageSet{})
}

// specs are what dnf is asked to install.
func (s *Session) specs(t tool, set description.PackageSet) ([]string, error) {
	list, err := names(set.Packages)
	if err != nil {
		return nil, err
	}
	for _, group := range set.Collections {
		if !t.groups {
			s.Log.Warn("microdnf knows no groups; list the packages, or use dnf4 or dnf5", "at", group.Pos.String(), "group", group.Name)
			continue
		}
		list = append(list, "@"+strings.TrimPrefix(group.Name, "@"))
	}
	s.LeaveOut("product", set.Products)
	return list, nil
}

// names are the names of packages, none of which dnf or rpm takes for an option.
func names(list []description.Package) ([]string, error) {
	for _, p := range list {
		if strings.HasPrefix(p.Name, "-") {
			return nil, p.Errorf("name", "", "%s can't be the name of a package", p.Name)
		}
	}
	return description.Names(list), nil
}

// settingsFor is the configuration of an installation.
func (s *Session) settingsFor(set description.PackageSet) settings {
	c := settings{weak: set.PlusRecommended, exclude: description.Names(set.Ignore)}
	if s.Locked != nil {
		c.only = []string{}
		for _, p := range s.Locked {
			c.only = append(c.only, p.String())
		}
	}
	return c
}

// transact downloads what a transaction needs, checks it, and executes it without a network.
func (s *Session) transact(ctx context.Context, t tool, verb string, set description.PackageSet) error {
	doing := map[string]string{"install": "installing packages", "upgrade": "updating packages"}[verb]
	fail := func(err error) error { return fmt.Errorf("%s: %w", doing, err) }
	before, err := s.Tree(ctx)
	if err != nil {
		return fail(err)
	}
	specs, err := s.specs(t, set)
	if err != nil {
		return fail(err)
	}
	if verb == "install" && len(specs) == 0 {
		return nil
	}
	if err := s.refresh(ctx, t); err != nil {
		return fail(err)
	}
	c := s.settingsFor(set)
	plan, err := s.download(ctx, t, append([]string{verb}, specs...), c, set)
	if err != nil {
		return fail(err)
	}
	if len(plan.Packages) == 0 {
		return nil
	}
	task := s.Progress.Start(strings.Replace(doing, "packages", strconv.Itoa(len(plan.Packages))+" packages", 1), int64(len(plan.Packages)), progress.Items)
	running := false
	out, err := s.run(ctx, t, request{command: append([]string{verb}, specs...), settings: c, noNetwork: true, line: func(line string) {
		running = running || strings.HasPrefix(line, "Running transaction")
		if running && isStep(line) {
			task.Add(1)
		}
		if strings.Contains(line, "scriptlet failed") {
			s.Log.Warn("a package's script failed", "line", line)
		}
	}})
	task.Done(err)
	if err != nil {
		onlyScripts, markErr := s.scriptsFailed(ctx, t, plan, out)
		if markErr != nil {
			return fail(markErr)
		}
		if !onlyScripts {
			return fail(s.explain(ctx, t, err, out, set))
		}
	}
	if err := s.forget(ctx, t, before); err != nil {
		return fail(err)
	}
	s.Record(s.named(plan).Packages, true)
	return nil
}

// isStep reports whether a line of output tells of a package that comes.
func isStep(line string) bool {
	for _, word := range []string{"Installing", "Upgrading", "Updating", "Downgrading", "Reinstalling"} {
		if strings.Contains(line, word) {
			return true
		}
	}
	return false
}

// refresh fetches the lists of packages and switches modules, once.
func (s *Session) refresh(ctx context.Context, t tool) error {
	if !s.ready[t.name] {
		if err := s.fromCache(t); err != nil {
			return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
		}
		if !s.Offline {
			task := s.Progress.Start("fetching package lists", 0, progress.Items)
			out, err := s.run(ctx, t, request{command: []string{"makecache", "--refresh"}})
			if err != nil {
				err = fmt.Errorf("fetching package lists: %w", s.explain(ctx, t, err, out, description.PackageSet{}))
			}
			task.Done(err)
			if err != nil {
				return err
			}
		}
		if err := s.toCache(t); err != nil {
			return fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
		}
		s.ready[t.name] = true
	}
	if s.modules {
		return nil
	}
	s.modules = true
	return s.switchModules(ctx, t)
}

// switchModules enables and disables the modules that the description names.
func (s *Session) switchModules(ctx context.Context, t tool) error {
	for _, m := range s.Image.Packages.Modules {
		steps := [][]string{{"module", "disable", m.Name}}
		if m.Enable {
			name := m.Name
			if m.Stream != "" {
				name += ":" + m.Stream
			}
			steps = [][]string{{"module", "reset", m.Name}, {"module", "enable", name}}
		}
		for _, step := range steps {
			out, err := s.run(ctx, t, request{command: step})
			if err == nil {
				continue
			}
			if out == nil {
				return err
			}
			if line := firstWith(out.Lines(), "Unable to resolve argument", "missing groups or modules", "No matching", "No module", "No match for argument: "); line != "" {
				return m.Errorf("", "check its name and stream; the repositories are: "+strings.Join(s.repositories(), ", "), "no repository has the module %s: %s", step[2], line)
			}
			return fmt.Errorf("switching the module %s: %w", step[2], s.explain(ctx, t, err, out, description.PackageSet{}))
		}
	}
	return nil
}
