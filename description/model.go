package description

import "io/fs"

// Origin ties a value of the model to the element of the description it was
// read from. Its zero value belongs to values that nobody wrote.
type Origin struct {
	Pos   Position
	attrs map[string]Position
}

// At returns the position of the attribute or child element name, or the
// position of the element itself when that has none of this name.
func (o Origin) At(name string) Position {
	if p, ok := o.attrs[name]; ok {
		return p
	}
	return o.Pos
}

// Errorf makes an error at the attribute or child element name of the value's
// element, for packages that find out later that a setting cannot be obeyed.
// An empty name means the element itself. Hint says what to do.
func (o Origin) Errorf(name, hint, format string, args ...any) *Error {
	return problem(o.At(name), hint, format, args...)[0]
}

// Has reports whether the description itself sets the attribute or child
// element name, as against a default.
func (o Origin) Has(name string) bool {
	_, ok := o.attrs[name]
	return ok
}

// Tristate is a yes-or-no setting that a description may leave open.
type Tristate uint8

// The three states.
const (
	Unset Tristate = iota
	False
	True
)

// Or returns the setting, or def where the description leaves it open.
func (t Tristate) Or(def bool) bool {
	if t == Unset {
		return def
	}
	return t == True
}

// String returns "true", "false" or "".
func (t Tristate) String() string {
	switch t {
	case True:
		return "true"
	case False:
		return "false"
	}
	return ""
}

// Selection is what a user chooses from a description.
type Selection struct {
	Profiles []string // empty: those that the description imports by default
	Type     string   // empty: the primary type or else the first
	Arch     string   // as uname -m gives it; empty: that of this machine
	// SkipChecks names checks that are not made; see Checks and AllChecks.
	SkipChecks []string
	// EmptyTree says that the root tree is made of packages alone, so that what
	// is not among the packages is missing. Else it starts from containers or
	// from a root tree that is there, which may have it.
	EmptyTree bool
}

// Image is a description resolved for one selection. It is read-only: whoever
// needs other values asks Document.Resolve again or keeps its own copy.
type Image struct {
	Origin
	Name          string // the base name of all results
	DisplayName   string // the boot menu title; Name when not given
	ID            string // for /etc/ImageID
	SchemaVersion string // as written, before any upgrade
	Kind          string // "system" or "boot"
	Author        string
	Contact       string
	Specification string
	License       string

	Arch     string   // the architecture this was resolved for
	Profiles []string // the active profiles

	Version         string
	PackageManager  string   // apt, zypper, dnf4, dnf5, microdnf, pacman, apk
	ReleaseVersion  string   // distribution release for the package manager
	Locales         []string // xx_YY without encoding, or POSIX; the first is LANG
	Keytable        string
	Timezone        string // relative to /usr/share/zoneinfo
	BootsplashTheme string
	BootloaderTheme string
	ShowLicense     []string
	RPM             RPMSettings

	Users        []User
	Groups       []Group // every group that a user names, once
	Repositories []Repository
	Packages     Packages
	Drivers      []string
	Strip        Strip

	Type Type

	// Warnings are settings of the description that count for the selection and
	// have no effect in it, each with its position and the reason.
	Warnings Errors

	doc       *Document
	selection Selection
	types     []*element // all that count for the selection
	// firstPreferences holds the texts of the first preferences section that
	// counts, which alone reach /.profile.
	firstPreferences map[string]string

	// Dir is the directory of the description on this machine, empty when
	// it was not loaded from one; FS is its content in any case. File is the
	// name of the description's file in it.
	Dir  string
	FS   fs.FS
	File string
}

// RPMSettings are the settings that only rpm based package managers know,
// except for CheckSignatures, which all obey.
type RPMSettings struct {
	LocaleFiltering bool
	ExcludeDocs     bool
	CheckSignatures bool
}

// User is an account to create, or to change when it exists.
type User struct {
	Origin
	Name     string `kiwi:"name"`
	Password string `kiwi:"password"` // never to be logged
	// Plain says that Password is in clear text and has to be hashed.
	Plain    bool
	UID      int     `kiwi:"id"` // -1: the system chooses
	RealName string  `kiwi:"realname"`
	Home     string  `kiwi:"home"`
	Shell    string  `kiwi:"shell"`
	Groups   []Group // the first is the login group
}

// Group is a group that a user belongs to.
type Group struct {
	Name string
	GID  int // -1: the system chooses; only for a group that does not exist yet
}

// Repository is a source of packages.
type Repository struct {
	Origin
	Source     string   // URI as written, with %arch expanded
	SourcePos  Position // of the path attribute
	Type       string   `kiwi:"type"`     // apt-deb, rpm-md, ...; empty: by the package manager
	Alias      string   `kiwi:"alias"`    // empty: the reader makes one up from Source
	Priority   int      `kiwi:"priority"` // 0: none given
	Username   string   `kiwi:"username"`
	Password   string   `kiwi:"password"` // never to be logged
	Components []string `kiwi:"components,words"`
	// Distribution is the suite of an apt repository; empty for a flat one.
	Distribution    string   `kiwi:"distribution"`
	SourceType      string   `kiwi:"sourcetype"` // baseurl, metalink, mirrorlist; empty: baseurl
	Customize       string   `kiwi:"customize"`  // script, relative to the description
	Architectures   []string `kiwi:"architectures,commas"`
	ImageInclude    bool     `kiwi:"imageinclude"`
	ImageOnly       bool     `kiwi:"imageonly"`
	PackageGPGCheck Tristate `kiwi:"package_gpgcheck"`
	RepoGPGCheck    Tristate `kiwi:"repository_gpgcheck"`
	UseForBootstrap bool     `kiwi:"use_for_bootstrap"`
	SigningKeys     []SigningKey
}

// SigningKey is a public key that packages of a repository are signed with.
type SigningKey struct {
	Origin
	URI string `kiwi:"key"` // file, http, https or ftp; a plain path is a file
}

// Packages is the software of an image.
type Packages struct {
	Bootstrap PackageSet // installed first, into the empty root tree
	System    PackageSet // installed by the root tree's own package manager
	Delete    []Package  // removed by force, at the end
	Uninstall []Package  // removed with what depends on them, at the end
	// SystemFiles are packages whose files a container that is derived from
	// this one finds listed (schema 8).
	SystemFiles []Package
	Modules     []CollectionModule
	// BootstrapPackage names a package that brings the bootstrap root as a
	// tar archive (apt only).
	BootstrapPackage string
}

// PackageSet is the software of one step.
type PackageSet struct {
	Packages    []Package
	Collections []Package // patterns, groups, tasks
	Products    []Package
	Ignore      []Package
	Archives    []Archive
	Files       []File
	// PlusRecommended asks for recommended packages too; else only required
	// ones are installed.
	PlusRecommended bool
	// PatternType is onlyRequired or plusRecommended as resolved.
	PatternType string
}

// Package is the name of a package, collection or product.
type Package struct {
	Origin
	Name        string `kiwi:"name"`
	BootInclude bool   `kiwi:"bootinclude"` // also into a custom initrd of kiwi's own kind
	BootDelete  bool   `kiwi:"bootdelete"`
}

// Archive is a tar archive to unpack after the packages.
type Archive struct {
	Origin
	Name        string `kiwi:"name"`       // absolute or relative to the description
	TargetDir   string `kiwi:"target_dir"` // in the root tree; empty: /
	BootInclude bool   `kiwi:"bootinclude"`
}

// File is a file of the description that is copied into the root tree
// (schema 8).
type File struct {
	Origin
	Name        string `kiwi:"name"`        // relative to the description
	Target      string `kiwi:"target"`      // in the root tree; /Name by default
	Owner       string `kiwi:"owner"`       // user or user:group; root by default
	Permissions string `kiwi:"permissions"` // octal; those of the file by default
}

// CollectionModule switches a dnf module on or off.
type CollectionModule struct {
	Origin
	Name   string `kiwi:"name"`
	Stream string `kiwi:"stream"`
	Enable bool   `kiwi:"enable"`
}

// Strip lists what is removed from, or kept in, an initrd of kiwi's own kind.
type Strip struct {
	Delete []string
	Tools  []string
	Libs   []string
}

// Names returns the names of a list of packages.
func Names(list []Package) []string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	return names
}
