package testrepos

import (
	"os"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// Distribution is the packages of a minimal distribution: "filesystem" with the directories, "busybox" as its shell and programs, and
// "release" with /etc/os-release, all required by "base". ID is what os-release says, such as "opensuse-leap" or "fedora".
func Distribution(t testing.TB, id string) []RPM {
	t.Helper()
	busybox := staticBusybox(t)
	filesystem := RPM{Name: "filesystem", Arch: HostArch(), Files: []File{
		{Path: "/etc/"}, {Path: "/dev/"}, {Path: "/home/"}, {Path: "/opt/"}, {Path: "/proc/", Mode: 0o555}, {Path: "/root/", Mode: 0o700}, {Path: "/run/"}, {Path: "/sys/", Mode: 0o555},
		{Path: "/tmp/", Mode: 0o1777}, {Path: "/usr/"}, {Path: "/usr/bin/"}, {Path: "/usr/lib/"}, {Path: "/usr/lib64/"}, {Path: "/usr/sbin/"}, {Path: "/usr/share/"}, {Path: "/var/"},
		{Path: "/var/cache/"}, {Path: "/var/lib/"}, {Path: "/var/log/"}, {Path: "/var/tmp/", Mode: 0o1777},
		{Path: "/bin", Link: "usr/bin"}, {Path: "/sbin", Link: "usr/sbin"}, {Path: "/lib", Link: "usr/lib"}, {Path: "/lib64", Link: "usr/lib64"},
	}}
	programs := RPM{Name: "busybox", Version: "1.35", Arch: HostArch(), Requires: []string{"filesystem"}, Provides: []string{"/bin/sh", "/usr/bin/sh"}, Files: []File{
		{Path: "/usr/bin/busybox", Copy: busybox, Mode: 0o755},
	}}
	for _, name := range []string{"sh", "cat", "chmod", "cp", "echo", "env", "false", "grep", "id", "ln", "ls", "mkdir", "mv", "rm", "sed", "sleep", "test", "touch", "true"} {
		programs.Files = append(programs.Files, File{Path: "/usr/bin/" + name, Link: "busybox"})
	}
	release := RPM{Name: "release", Version: "15.6", Files: []File{
		{Path: "/usr/lib/os-release", Content: "NAME=\"Test\"\nID=" + id + "\nVERSION_ID=15.6\nPRETTY_NAME=\"Test 15.6\"\n"},
		{Path: "/etc/os-release", Link: "../usr/lib/os-release"},
	}}
	return []RPM{filesystem, programs, release, {Name: "base", Requires: []string{"filesystem", "busybox", "release"}}}
}

// staticBusybox returns the path of this machine's busybox, which needs no libraries.
func staticBusybox(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/busybox", "/bin/busybox", "/usr/sbin/busybox"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	testenv.Missing(t, "a busybox without libraries (package busybox-static)")
	return ""
}

// Pattern is a package that zypper takes for a pattern of this name.
func Pattern(name string, requires, recommends []string) RPM {
	return RPM{
		Name: "patterns-test-" + name, Version: "15", Requires: requires, Recommends: recommends,
		Provides: []string{"pattern() = " + name, "pattern-category() = Test", "pattern-visible()", "pattern-order() = 1000"},
		Files:    []File{{Path: "/usr/share/doc/packages/patterns/" + name + ".txt", Content: "This is the pattern " + name + ".\n"}},
	}
}

// Product is a package that zypper takes for a product of this name.
func Product(name string, requires []string) RPM {
	return RPM{
		Name: name + "-release", Version: "15", Release: "1", Requires: requires,
		Provides: []string{"product() = " + name, "product(" + name + ") = 15-1", "product-label() = " + name},
		Files: []File{{Path: "/etc/products.d/" + name + ".prod", Content: `<?xml version="1.0" encoding="UTF-8"?>
<product schemeversion="0">
  <vendor>test</vendor>
  <name>` + name + `</name>
  <version>15</version>
  <release>1</release>
  <arch>noarch</arch>
  <summary>` + name + `</summary>
</product>
`}},
	}
}

// Group is a comps.xml with one group, for RPMRepo.Groups.
func Group(id string, mandatory, optional []string) string {
	text := `<?xml version="1.0" encoding="UTF-8"?>
<comps>
  <group>
    <id>` + id + `</id>
    <name>Group ` + id + `</name>
    <description>For a test</description>
    <default>true</default>
    <uservisible>true</uservisible>
    <packagelist>
`
	for _, name := range mandatory {
		text += `      <packagereq type="mandatory">` + name + "</packagereq>\n"
	}
	for _, name := range optional {
		text += `      <packagereq type="optional">` + name + "</packagereq>\n"
	}
	return text + "    </packagelist>\n  </group>\n</comps>\n"
}

// Module is one stream of a module for RPMRepo.Modules. Packages are NAME-EPOCH:VERSION-RELEASE.ARCH; the first one's name is in the default profile.
func Module(name, stream, profile string, packages ...string) string {
	text := "---\ndocument: modulemd\nversion: 2\ndata:\n  name: " + name + "\n  stream: \"" + stream + "\"\n  version: 1\n  context: c0ffee42\n  arch: " + HostArch() +
		"\n  summary: " + name + "\n  description: For a test.\n  license:\n    module: [MIT]\n  profiles:\n    default:\n      rpms: [" + profile + "]\n  artifacts:\n    rpms:\n"
	for _, p := range packages {
		text += "    - " + p + "\n"
	}
	return text + "...\n"
}
