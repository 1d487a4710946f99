package description

// Attributes that many elements share.
var (
	nameAttr     = attrRule{Name: "name", Value: text, Required: true, Doc: "The name."}
	archAttr     = attrRule{Name: "arch", Value: archList, Doc: "The element counts only on these architectures, as uname -m gives them."}
	profilesAttr = attrRule{Name: "profiles", Value: text, Doc: "The element counts only when one of these profiles, with commas between, is active."}
)

// A textElement is an element that holds nothing but a text.
func textElement(name string, value *valueRule, doc string) *elementRule {
	return &elementRule{Name: name, Text: value, Doc: doc}
}

// since returns the rule with its first version.
func (r *elementRule) since(v version) *elementRule {
	r.Since = v
	return r
}

// with returns the rule with an effect.
func (r *elementRule) with(f effect) *elementRule {
	r.effect = f
	return r
}

var imageRule = &elementRule{
	Name: "image",
	Doc:  "The top of every description.",
	Attrs: []attrRule{
		{Name: "name", Value: safeName, Required: true, Doc: "The base name of all results."},
		{Name: "schemaversion", Value: text, Required: true, Doc: "The version of the language that the description is written in; every one from 5.0 on is read and brought up to date."},
		{Name: "displayname", Value: text, Doc: "The title in the boot menu; the name when not given."},
		{Name: "id", Value: text, Doc: "An identification that goes into /etc/ImageID."},
		{Name: "xsi:noNamespaceSchemaLocation", Value: text, Doc: "For editors; it has no effect."},
		{Name: "xsi:schemaLocation", Value: text, Excludes: "xsi:noNamespaceSchemaLocation", Doc: "For editors; it has no effect."},
	},
	Children: []childRule{
		{any0, includeRule},
		{one, descriptionRule},
		{some, preferencesRule},
		{any0, profilesRule},
		{any0, usersRule},
		{any0, driversRule},
		{any0, stripRule},
		{any0, repositoryRule},
		{any0, containersRule},
		{any0, packagesRule},
		{optional, extensionRule},
	},
}

var includeRule = &elementRule{
	Name: "include",
	Doc:  "Is replaced by what stands inside the `<image>` of another file. An included file can't include again.",
	Attrs: []attrRule{
		{Name: "from", Value: text, Required: true, Doc: "A path relative to the description, optionally with `this://` or `file://` before it, or `file:///absolute/path`. A directory stands for its `*.xml` files in the order of their names."},
	},
}

var descriptionRule = &elementRule{
	Name: "description",
	Doc:  "Who made the image and what for.",
	Attrs: []attrRule{
		{Name: "type", Value: oneOf("boot", "system"), Required: true, Doc: "system for every image of yours; boot for the description of an initrd of kiwi's own kind."},
	},
	Children: []childRule{
		{one, textElement("author", text, "The author; also the author of a container and its history.")},
		{some, textElement("contact", text, "An address, usually of mail.")},
		{one, textElement("specification", text, "What the image is for.")},
		{optional, textElement("license", text, "The licence of the description.")},
	},
}

var preferencesRule = &elementRule{
	Name:  "preferences",
	Doc:   "The settings of the image and its types. Several sections may stand in a description; those whose profiles and architecture fit are merged.",
	Attrs: []attrRule{profilesAttr, archAttr},
	Children: []childRule{
		{optional, textElement("bootsplash-theme", text, "The plymouth theme.")},
		{optional, textElement("bootloader-theme", text, "The theme of GRUB's menu, which the root tree must bring; for a graphical terminal.").with(effect{For: onBootloader})},
		{optional, textElement("keytable", text, "The keyboard map of the console.")},
		{optional, textElement("locale", localeList, "The language of the system; the first one becomes LANG with UTF-8.")},
		{optional, packageManagerRule},
		{optional, textElement("release-version", text, "The distribution release that zypper or dnf is told.").with(effect{Needs: needsManager("zypper", "dnf4", "dnf5", "microdnf")})},
		{optional, textElement("rpm-locale-filtering", boolean, "Leave out files for other languages than those of locale (rpm).").with(effect{Needs: needsManager("zypper", "dnf4", "dnf5", "microdnf")})},
		{optional, textElement("rpm-check-signatures", boolean, "Check the signatures of packages. apt and apk always do.").with(effect{Needs: needsManager("zypper", "dnf4", "dnf5", "microdnf", "pacman")})},
		{optional, textElement("rpm-excludedocs", boolean, "Leave out documentation.").with(effect{Needs: needsManager("apt", "zypper", "dnf4", "dnf5", "microdnf")})},
		{any0, textElement("showlicense", text, "A licence to be shown at the first boot.").with(effect{Idle: noKiwiInitrd})},
		{optional, textElement("timezone", text, "The time zone, relative to /usr/share/zoneinfo.")},
		{any0, typeRule},
		{optional, textElement("version", text, "The version of the image, Major.Minor.Release; part of the results' names.")},
	},
}

var packageManagerRule = &elementRule{
	Name: "packagemanager",
	Doc:  "The package manager of the distribution.",
	Text: oneOf("apt", "zypper", "dnf4", "dnf5", "microdnf", "pacman", "apk").since(v8_2, "apk"),
}

var profilesRule = &elementRule{
	Name:     "profiles",
	Doc:      "Names by which a user chooses parts of the description.",
	Children: []childRule{{some, profileRule}},
}

var profileRule = &elementRule{
	Name: "profile",
	Doc:  "One profile.",
	Attrs: []attrRule{
		nameAttr,
		{Name: "description", Value: text, Required: true, Doc: "What it changes, for people."},
		{Name: "import", Value: boolean, Default: "false", Doc: "The profile is active when the user chooses none."},
		archAttr,
	},
	Children: []childRule{{any0, &elementRule{
		Name: "requires",
		Doc:  "Another profile that becomes active together with this one.",
		Attrs: []attrRule{
			{Name: "profile", Value: text, Required: true, Doc: "Its name."},
		},
	}}},
}

var usersRule = &elementRule{
	Name:     "users",
	Doc:      "The accounts of the image.",
	Attrs:    []attrRule{profilesAttr},
	Children: []childRule{{some, userRule}},
}

var userRule = &elementRule{
	Name: "user",
	Doc:  "An account to create, or to change when the root tree has it already.",
	Attrs: []attrRule{
		nameAttr,
		{Name: "password", Value: text, Required: true, Doc: "The password, as pwdformat says."},
		{Name: "pwdformat", Value: oneOf("encrypted", "plain"), Default: "encrypted", Doc: "Whether the password is a crypt(3) hash or clear text, which is hashed before it is stored."},
		{Name: "id", Value: number, Doc: "The numeric user id."},
		{Name: "groups", Value: groupList, Doc: "The groups of the user with commas between; the first is the login group. NAME:GID sets the id of a group that does not exist yet."},
		{Name: "realname", Value: text, Doc: "The person's name."},
		{Name: "home", Value: text, Doc: "The home directory."},
		{Name: "shell", Value: text, Doc: "The login shell."},
	},
}

// fileRule is a file of a drivers or strip list.
var fileRule = &elementRule{Name: "file", Doc: "One name.", Attrs: []attrRule{nameAttr, archAttr}}

var driversRule = &elementRule{
	Name:     "drivers",
	Doc:      "Kernel modules for an initrd of kiwi's own kind.",
	Attrs:    []attrRule{profilesAttr},
	Children: []childRule{{some, fileRule}},
}

var stripRule = &elementRule{
	Name:   "strip",
	Doc:    "What to remove from, or keep in, an initrd of kiwi's own kind.",
	effect: effect{Idle: noKiwiInitrd},
	Attrs: []attrRule{
		{Name: "type", Value: oneOf("delete", "tools", "libs"), Required: true, Doc: "delete: files to remove; tools: programs to keep; libs: libraries to keep."},
		profilesAttr,
	},
	Children: []childRule{{some, fileRule}},
}

var repositoryRule = &elementRule{
	Name: "repository",
	Doc:  "A source of packages.",
	Attrs: []attrRule{
		{Name: "type", Value: oneOf("apt-deb", "apt-rpm", "deb-dir", "mirrors", "rpm-dir", "rpm-md").until(v8_0, "rpm-dir"), Doc: "The kind of repository; by default what the package manager uses."},
		profilesAttr,
		{Name: "arch", Value: archList, Doc: archAttr.Doc, Since: v8_0},
		{Name: "alias", Value: safeName, Doc: "The name of the repository's file; by default one derived from its source.", KIWI: "makes up a random one"},
		{Name: "sourcetype", Value: oneOf("baseurl", "metalink", "mirrorlist"), Default: "baseurl", Doc: "What the source's path points to."},
		{Name: "components", Value: text, Default: "", effect: effect{Needs: needsManager("apt", "pacman", "apk")}, Doc: "The components of a repository, with blanks between; main by default (apt). For pacman they are the names of its databases."},
		{Name: "distribution", Value: text, effect: effect{Needs: needsManager("apt", "apk")}, Doc: "The suite of an apt repository, which a flat one does not have; the branch of an apk repository."},
		{Name: "imageinclude", Value: boolean, Default: "false", Excludes: "imageonly", Doc: "The repository is also set up in the image."},
		{Name: "imageonly", Value: boolean, Default: "false", Doc: "The repository is set up in the image and not used for the build."},
		{Name: "repository_gpgcheck", Value: boolean, Doc: "Check the signature of the repository's metadata; by default as the package manager does."},
		{Name: "package_gpgcheck", Value: boolean, effect: effect{Needs: needsManager("zypper", "dnf4", "dnf5", "microdnf", "pacman", "apk")}, Doc: "Check the signature of each package; by default as the package manager does. Packages for apt have none: its index is signed."},
		{Name: "customize", Value: text, Doc: "A script, relative to the description, that is called with the name of the repository's file and may change it."},
		{Name: "prefer-license", Value: boolean, Default: "false", Until: v7_6, Doc: "Only in old documents: it has no effect.", KIWI: "refuses it, though its documents show it"},
		{Name: "priority", Value: integer, effect: effect{Needs: needsManager("apt", "zypper", "dnf4", "dnf5", "microdnf", "pacman")}, Doc: "The priority, as the package manager understands it."},
		{Name: "username", Value: text, Doc: "The user name for a repository that asks for one."},
		{Name: "password", Value: text, Doc: "The password for it."},
		{Name: "use_for_bootstrap", Value: boolean, Default: "false", Until: v8_1, effect: effect{Needs: needsManager("apt")}, Doc: "The root tree starts from this repository; by default from the last one (apt)."},
		{Name: "architectures", Value: archList, Since: v8_2, Doc: "The architectures whose packages the repository holds (apt)."},
	},
	Children: []childRule{{one, &elementRule{
		Name: "source",
		Doc:  "Where the repository is.",
		Attrs: []attrRule{
			{Name: "path", Value: text, Required: true, Doc: "`http://`, `https://`, `ftp://`, `file:/`, `dir:/`, `iso:/`, `this://`, `obs://` or `obsrepositories:/`, or an absolute path. `%arch` stands for the architecture."},
		},
		Children: []childRule{{any0, &elementRule{
			Name: "signing",
			Doc:  "A key that the repository's packages are signed with.",
			Attrs: []attrRule{
				{Name: "key", Value: keyURI, Required: true, Doc: "Where the public key is.", KIWI: "refuses a path without file:, though its documents show one"},
			},
		}}},
	}}},
}

var containersRule = &elementRule{
	Name:   "containers",
	Doc:    "Containers that are put into the storage of a container engine inside the image.",
	effect: effect{Idle: noInner},
	Since:  v8_0,
	Attrs: []attrRule{
		{Name: "source", Value: text, Required: true, Doc: "The registry."},
		{Name: "backend", Value: oneOf("podman", "docker", "container-snap"), Required: true, Doc: "The container engine."},
		profilesAttr, archAttr,
	},
	Children: []childRule{{some, &elementRule{
		Name:   "container",
		Doc:    "One container.",
		effect: effect{Idle: noInner},
		Attrs: []attrRule{
			nameAttr,
			{Name: "path", Value: text, Default: "/", Doc: "The path in the registry."},
			{Name: "tag", Value: text, Default: "latest", Doc: "The tag."},
			{Name: "fetch_only", Value: boolean, Default: "false", Doc: "Only put the container there, without loading it at the first boot."},
			archAttr,
		},
	}}},
}

var packagesRule = &elementRule{
	Name: "packages",
	Doc:  "Software of one step of the build.",
	Attrs: []attrRule{
		{Name: "type", Value: oneOf("bootstrap", "delete", "docker", "image", "iso", "oem", "pxe", "kis", "oci", "uninstall", "systemfiles").since(v8_0, "systemfiles"), Required: true,
			Doc: "bootstrap: into the empty root tree; image: by the root tree's own package manager; an image type: as image, for that type only; uninstall: removed with what depends on it, at the end; delete: removed by force, at the end."},
		profilesAttr,
		{Name: "patternType", Value: oneOf("onlyRequired", "plusRecommended"), Default: "onlyRequired", effect: effect{Needs: needsManager("apt", "zypper", "dnf4", "dnf5", "microdnf")}, Doc: "Whether recommended packages are installed too."},
		{Name: "bootstrap_package", Value: text, effect: effect{Needs: needsManager("apt")}, Doc: "A package whose archive /var/lib/bootstrap/NAME.ARCH.tar.xz is the first root tree (apt, only for type bootstrap)."},
	},
	Children: []childRule{
		{any0, &elementRule{
			Name: "archive",
			Doc:  "A tar archive that is unpacked after the packages.",
			Attrs: []attrRule{
				{Name: "name", Value: text, Required: true, Doc: "Its file, absolute or relative to the description."},
				bootIncludeAttr,
				{Name: "target_dir", Value: text, Default: "/", Doc: "The directory of the root tree to unpack it in."},
			},
		}},
		{any0, &elementRule{
			Name:  "file",
			Doc:   "A file of the description that is copied into the root tree.",
			Since: v8_0,
			Attrs: []attrRule{
				{Name: "name", Value: text, Required: true, Doc: "The file, relative to the description."},
				{Name: "target", Value: text, Doc: "Where it goes; the same name below / by default."},
				{Name: "owner", Value: ownerName, Doc: "Its owner, as user or user:group."},
				{Name: "permissions", Value: octal, Doc: "Its mode."},
				archAttr,
			},
		}},
		{any0, &elementRule{Name: "ignore", Doc: "A package that must not be installed, whoever asks for it.", Attrs: []attrRule{nameAttr, archAttr}}},
		{any0, &elementRule{Name: "namedCollection", Doc: "A pattern (zypper), group (dnf), or package group (pacman).", effect: effect{Needs: needsManager("zypper", "dnf4", "dnf5", "microdnf", "pacman", "apk")}, Attrs: []attrRule{nameAttr, archAttr}}},
		{any0, &elementRule{
			Name:   "collectionModule",
			Doc:    "A dnf module to switch on or off; only for type bootstrap.",
			effect: effect{Needs: needsManager("dnf4", "dnf5", "microdnf")},
			Attrs: []attrRule{
				{Name: "name", Value: safeName, Required: true, Doc: "The module."},
				{Name: "enable", Value: boolean, Required: true, Doc: "On or off."},
				{Name: "stream", Value: safeName, Doc: "The stream of a module that is switched on."},
				archAttr,
			},
		}},
		{any0, &elementRule{Name: "product", Doc: "A product (zypper).", effect: effect{Needs: needsManager("zypper")}, Attrs: []attrRule{nameAttr, archAttr}}},
		{any0, &elementRule{
			Name: "package",
			Doc:  "A package.",
			Attrs: []attrRule{
				nameAttr, archAttr, bootIncludeAttr,
				{Name: "bootdelete", Value: boolean, Default: "false", effect: effect{Idle: noKiwiInitrd}, Doc: "Remove it from an initrd of kiwi's own kind; only with bootinclude."},
			},
		}},
	},
}

var bootIncludeAttr = attrRule{Name: "bootinclude", Value: boolean, Default: "false", effect: effect{Idle: noKiwiInitrd}, Doc: "Also put it into an initrd of kiwi's own kind."}

var extensionRule = &elementRule{
	Name:    "extension",
	Doc:     "Elements of other namespaces, for other programs; they are kept and have no effect.",
	Foreign: true,
}
