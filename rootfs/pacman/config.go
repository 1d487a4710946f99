package pacman

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// section is one database of packages: pacman knows it by the name of its file.
type section struct {
	name     string
	repo     repositories.Repository
	servers  []string // without secrets
	sigLevel string
	custom   string // what a customize script has made of the section, "" for none
}

// neutral is the priority of a repository that has none, as in zypper and dnf.
const neutral = 99

// findSections turns the repositories into sections: one for each component, or one with the repository's alias as its name. Repositories of a lower number, in
// the sense of zypper and dnf, come first: pacman takes a package from the first one that has it.
func (s *Session) findSections(ctx context.Context) ([]section, error) {
	var sections []section
	list := slices.Clone(s.Repositories.List)
	slices.SortStableFunc(list, func(a, b repositories.Repository) int { return rank(a) - rank(b) })
	for _, r := range list {
		names, err := databases(r)
		if err != nil {
			return nil, err
		}
		servers, err := r.Mirrors(ctx, nil) // pacman replaces $repo and $arch itself
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			i := slices.IndexFunc(sections, func(s section) bool { return s.name == name })
			if i >= 0 { // another mirror of the same database
				if sections[i].repo.User != r.User || sections[i].repo.Password != r.Password {
					return nil, r.Errorf("give each its own alias or components", "two repositories with different credentials have the database %s", name)
				}
				sections[i].servers = append(sections[i].servers, servers...)
				continue
			}
			sec := section{name: name, repo: r, servers: servers, sigLevel: sigLevel(r, s.Image.RPM.CheckSignatures)}
			if strings.HasPrefix(sec.sigLevel, "PackageNever") {
				s.Log.Warn("the signatures of packages are not checked", "repository", r.String())
			}
			if err := s.customize(ctx, &sec); err != nil {
				return nil, err
			}
			sections = append(sections, sec)
		}
	}
	return sections, nil
}

func rank(r repositories.Repository) int {
	if r.Description.Priority == 0 {
		return neutral
	}
	return r.Description.Priority
}

// databases are the names of the databases that a repository has.
func databases(r repositories.Repository) ([]string, error) {
	d := r.Description
	names := d.Components
	if len(names) == 0 && d.Alias != "" {
		names = []string{d.Alias}
	}
	if len(names) == 0 && r.Local != "" {
		files, err := filepath.Glob(filepath.Join(r.Local, "*.db"))
		if err != nil || len(files) != 1 {
			return nil, r.Errorf("give the repository the name of its database as alias", "the directory has %d databases (*.db) of packages", len(files))
		}
		names = []string{strings.TrimSuffix(filepath.Base(files[0]), ".db")}
	}
	if len(names) == 0 {
		return nil, r.Errorf(`give the name as alias, or several as components: alias="core"`, "the repository %s doesn't say what its database of packages is called", r)
	}
	for _, name := range names {
		if name == "local" || name == "options" || strings.ContainsAny(name, "[]/\\\n# ") || strings.HasPrefix(name, ".") {
			return nil, d.Errorf("alias", "give the name of the database: alias=\"core\" for core.db", "pacman can't have a repository with the name %q", name)
		}
	}
	return names, nil
}

// sigLevel says which signatures pacman asks for. Where the description leaves it open, packages must be signed if keys are given or always is set.
func sigLevel(r repositories.Repository, always bool) string {
	check := func(setting description.Tristate, otherwise string) string {
		switch {
		case setting == description.True:
			return "Required"
		case setting != description.False && (r.Keys != nil || always):
			return otherwise
		}
		return "Never"
	}
	return "Package" + check(r.Description.PackageGPGCheck, "Required") + " Database" + check(r.Description.RepoGPGCheck, "Optional")
}

// text is the section as pacman.conf(5) has it.
func (s section) text() string {
	if s.custom != "" {
		return s.custom
	}
	var text strings.Builder
	fmt.Fprintf(&text, "[%s]\n", s.name)
	for _, server := range s.servers {
		fmt.Fprintf(&text, "Server = %s\n", server)
	}
	fmt.Fprintf(&text, "SigLevel = %s\n", s.sigLevel)
	return text.String()
}

// secret is the section with the credentials in its addresses.
func (s section) secret() string {
	text := s.text()
	for _, server := range s.servers {
		text = strings.ReplaceAll(text, "= "+server+"\n", "= "+s.repo.WithCredentials(server)+"\n")
	}
	return text
}

// customize lets the repository's script change the section.
func (s *Session) customize(ctx context.Context, sec *section) error {
	if sec.repo.Description.Customize == "" {
		return nil
	}
	p, _, err := s.find(ctx)
	if err != nil {
		return err
	}
	data, err := sec.repo.Customize(ctx, repositories.CustomizeOptions{
		Files: s.Files, Run: p.Run, Workdir: s.Dir, Name: sec.name + ".repo", Data: []byte(sec.text()),
	})
	if asMissing(err) {
		return fmt.Errorf("running the script that customizes %s: %w", sec.repo, err)
	}
	sec.custom = string(data)
	return err
}

// configuration is what pacman.conf(5) says for a run.
func (s *Session) configuration(p packages.Place, only func(section) bool) string {
	var text strings.Builder
	text.WriteString("[options]\n")
	hooks := insideDir + "/no-hooks/" // pacman 7 insists on a directory
	if s.hooks {
		hooks = p.Root + hookDir + "/"
	}
	settings := [][2]string{
		{"DBPath", p.Root + databaseDir + "/"}, {"CacheDir", insideDir + "/cache/"}, {"LogFile", insideDir + "/pacman.log"},
		{"HookDir", hooks}, {"Architecture", s.Arch},
	}
	if s.own == "" {
		settings = append(settings, [2]string{"GPGDir", insideDir + "/gnupg/"}, [2]string{"SigLevel", "Required DatabaseOptional TrustAll"})
	}
	for _, setting := range settings {
		fmt.Fprintf(&text, "%s = %s\n", setting[0], setting[1])
	}
	text.WriteString("NoProgressBar\nParallelDownloads = 5\n")
	if ignored := s.ignored(); len(ignored) > 0 {
		fmt.Fprintf(&text, "IgnorePkg = %s\n", strings.Join(ignored, " "))
	}
	if s.own != "" {
		return text.String() + s.own
	}
	for _, sec := range s.sections {
		if only == nil || only(sec) {
			text.WriteString("\n" + sec.secret())
		}
	}
	return text.String()
}

// ignored are the names of the packages that are not to be installed.
func (s *Session) ignored() []string {
	var names []string
	for _, list := range [][]description.Package{s.Image.Packages.Bootstrap.Ignore, s.Image.Packages.System.Ignore} {
		for _, name := range description.Names(list) {
			if !slices.Contains(names, name) && !strings.ContainsAny(name, " \t\n*?[\\") {
				names = append(names, name)
			}
		}
	}
	return names
}

// writeKeyring makes gpg's directory with the keys of the description and no others. All of them are trusted, and none can be added: pacman asks a key server for
// a key that it doesn't know, but gpg may not start the program that would fetch it, and can't write to the keyring.
func (s *Session) writeKeyring() error {
	const conf = "no-greeting\nno-permission-warning\nlock-never\nno-autostart\nno-auto-key-locate\nno-auto-key-import\ntrust-model always\n"
	var ring []byte
	var seen []string
	for _, sec := range s.sections {
		if !slices.Contains(seen, sec.repo.Alias) {
			seen = append(seen, sec.repo.Alias)
			ring = append(ring, sec.repo.Keys...)
		}
	}
	// The empty database of trust is never read; pacman wants to see one.
	for name, data := range map[string][]byte{"pubring.gpg": ring, "trustdb.gpg": nil, "gpg.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(s.Dir, "gnupg", name), data, 0o600); err != nil {
			return fmt.Errorf("writing the keyring of pacman: %w", err)
		}
	}
	return nil
}

// readOwn takes the repositories that the root tree is set up with. Options that say where things lie are the session's.
func (s *Session) readOwn(ctx context.Context) error {
	p, tree, err := s.find(ctx)
	if err != nil {
		return err
	}
	noRepositories := s.Image.Errorf("repository", `add <repository alias="core"><source path="https://..."/></repository>`, "there are no repositories to install packages from")
	if p.Root != "" {
		return noRepositories
	}
	data, err := tree.ReadFile("etc/pacman.conf", 1<<20)
	if err != nil {
		return noRepositories
	}
	s.Log.Info("the description has no repositories: packages come from those of the root tree's /etc/pacman.conf")
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "RootDir", "DBPath", "CacheDir", "LogFile", "HookDir", "NoProgressBar", "ParallelDownloads", "CheckSpace", "Color", "ILoveCandy", "UseSyslog", "VerbosePkgLists", "XferCommand",
			"DownloadUser", "DisableSandbox", "[options]":
		default:
			text.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	s.own = text.String()
	return nil
}
