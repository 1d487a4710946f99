package description

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const profiled = `
<profiles>
	<profile name="a" description="d"><requires profile="c"/></profile>
	<profile name="b" description="d" import=" 1 " arch="x86_64"><requires profile="c"/></profile>
	<profile name="c" description="d" arch="x86_64,aarch64"><requires profile="a"/></profile>
	<profile name="broken" description="d"><requires profile="missing"/></profile>
</profiles>
<packages type="image" profiles="a"><package name="of-a"/></packages>
<packages type="image" profiles="b,c"><package name="of-b-or-c"/></packages>
<packages type="image"><package name="always"/><package name="old" arch="ix86"/><package name="deb" arch="amd64"/></packages>
<preferences profiles="a"><type image="docker"/></preferences>
<preferences arch="aarch64"><type image="oci" primary="1"/></preferences>`

func TestProfilesAndArchitectures(t *testing.T) {
	doc := loadString(t, small("x", profiled))
	tests := []struct {
		name     string
		sel      Selection
		profiles []string
		packages []string
		typ      string
	}{
		{"imported", Selection{Arch: "x86_64"}, []string{"b"}, []string{"always", "deb", "of-b-or-c"}, "tbz"},
		{"not for the architecture", Selection{Arch: "s390x"}, nil, []string{"always"}, "tbz"},
		{"required in a circle", Selection{Arch: "x86_64", Profiles: []string{"a"}}, []string{"a", "c"}, []string{"always", "deb", "of-a", "of-b-or-c"}, "tbz"},
		{"primary", Selection{Arch: "aarch64"}, nil, []string{"always"}, "oci"},
		{"chosen type", Selection{Arch: "i686", Type: "tbz"}, nil, []string{"always", "old"}, "tbz"},
		{"type of a profile", Selection{Arch: "x86_64", Profiles: []string{"a"}, Type: "docker"}, []string{"a", "c"}, []string{"always", "deb", "of-a", "of-b-or-c"}, "docker"},
	}
	for _, tt := range tests {
		img, err := doc.Resolve(tt.sel)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.profiles, img.Profiles); diff != "" {
			t.Errorf("%s: profiles (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.packages, Names(img.Packages.System.Packages)); diff != "" {
			t.Errorf("%s: packages (-want +got):\n%s", tt.name, diff)
		}
		if img.Type.Image != tt.typ {
			t.Errorf("%s: type %s, want %s", tt.name, img.Type.Image, tt.typ)
		}
	}
}

func TestSelectionErrors(t *testing.T) {
	doc := loadString(t, small("x", profiled))
	tests := []struct {
		sel  Selection
		want []string
	}{
		{Selection{Arch: "x86_64", Profiles: []string{"brokn"}}, []string{`profile "brokn"`, `did you mean "broken"?`}},
		{Selection{Arch: "x86_64", Profiles: []string{"zzz"}}, []string{`known are a, b, c, broken`}},
		{Selection{Arch: "x86_64", Profiles: []string{"broken"}}, []string{":9:51:", `profile "missing" is not defined`}},
		{Selection{Arch: "s390x", Profiles: []string{"c"}}, []string{`is for x86_64,aarch64 and not for s390x`}},
		{Selection{Arch: "x86_64", Type: "dcoker"}, []string{`no type "dcoker"`}},
		{Selection{Arch: "x86_64", Type: "docker"}, []string{`no type "docker"`}},
		{Selection{Arch: "x86_64", Profiles: []string{"a"}, Type: "dcoker"}, []string{`did you mean "docker"?`}},
	}
	for _, tt := range tests {
		_, err := doc.Resolve(tt.sel)
		if err == nil {
			t.Errorf("%+v: no error", tt.sel)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: error %q lacks %q", tt.sel, err, want)
			}
		}
	}
}

func TestHostArchitectureIsTheDefault(t *testing.T) {
	img, err := loadString(t, small("x")).Resolve(Selection{})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]; want != "" && img.Arch != want {
		t.Errorf("architecture %s, want %s", img.Arch, want)
	}
}

func TestOriginsAndDefaults(t *testing.T) {
	doc := loadString(t, small("x", `<preferences profiles=""><type image="oem"
   filesystem="xfs" installprovidefailsafe="false"><oemconfig><oem-swap>1</oem-swap></oemconfig></type></preferences>`))
	img, err := doc.Resolve(Selection{Arch: "ppc64le", Type: "oem"})
	if err != nil {
		t.Fatal(err)
	}
	typ := &img.Type
	if got := typ.At("filesystem").String(); got != "config.xml:5:4" {
		t.Errorf("filesystem stands at %s", got)
	}
	if got := typ.At("format"); got != typ.Pos {
		t.Errorf("an absent attribute stands at %s", got)
	}
	if err := typ.Errorf("filesystem", "use ext4", "no %s here", "xfs"); err.Error() != "config.xml:5:4: no xfs here; use ext4" {
		t.Errorf("error %q", err)
	}
	if typ.Has("firmware") || !typ.Has("oemconfig") {
		t.Error("Has does not tell what was written")
	}
	if typ.InstallProvideFailsafe || !typ.InstallContinueOnTimeout || typ.OEM.SwapSize != 128 || typ.Firmware != "ofw" {
		t.Errorf("defaults: %+v", typ)
	}
	if typ.BtrfsSetDefaultVolume != Unset || !typ.BtrfsSetDefaultVolume.Or(true) || True.Or(false) != true || False.Or(true) {
		t.Error("Tristate is wrong")
	}
}

func TestClearedCommand(t *testing.T) {
	doc := loadString(t, small("x", `<preferences><type image="oci"><containerconfig name="c">
<entrypoint clear="true"/><subcommand execute="sh"><argument name="-c"/></subcommand></containerconfig></type></preferences>`))
	img, err := doc.Resolve(Selection{Type: "oci"})
	if err != nil {
		t.Fatal(err)
	}
	c := img.Type.Container
	if c.Entrypoint == nil || len(c.Entrypoint) != 0 {
		t.Errorf("a cleared entry point is %#v", c.Entrypoint)
	}
	if diff := cmp.Diff([]string{"sh", "-c"}, c.Command); diff != "" {
		t.Error(diff)
	}
}

func TestProfileFile(t *testing.T) {
	doc := loadString(t, small("x", `<preferences><keytable>it's</keytable></preferences>`))
	img, err := doc.Resolve(Selection{SkipChecks: []string{AllChecks}})
	if err != nil {
		t.Fatal(err)
	}
	file := string(img.ProfileFile())
	// KIWI takes these settings from the first preferences section alone.
	if !strings.Contains(file, "\nkiwi_iname='x'\n") || !strings.Contains(file, "\nkiwi_keytable=''\n") {
		t.Errorf(".profile:\n%s", file)
	}
	doc = loadString(t, strings.Replace(small("x"), "<version>", "<keytable>it's</keytable><version>", 1))
	if img, err = doc.Resolve(Selection{SkipChecks: []string{AllChecks}}); err != nil {
		t.Fatal(err)
	}
	if file := string(img.ProfileFile()); !strings.Contains(file, `kiwi_keytable='it'\''s'`) {
		t.Errorf(".profile:\n%s", file)
	}
}

func TestChecksCanBeSwitchedOff(t *testing.T) {
	doc := loadString(t, small("x", `<users><user name="root" password="clear"/></users><repository><source path="nowhere"/></repository>`))
	_, err := doc.Resolve(Selection{})
	errs, ok := err.(Errors)
	if !ok || len(errs) != 2 {
		t.Fatalf("errors: %v", err)
	}
	ids := map[string]bool{}
	for _, e := range errs {
		ids[e.Check] = true
	}
	if _, err := doc.Resolve(Selection{SkipChecks: []string{"user_password_format", "repository_source_known"}}); err != nil {
		t.Errorf("switched off: %v (checks %v)", err, ids)
	}
	seen := map[string]bool{}
	for _, c := range Checks() {
		if c.ID == "" || c.Reason == "" || seen[c.ID] {
			t.Errorf("check %q is not described, or there twice", c.ID)
		}
		seen[c.ID] = true
	}
}
