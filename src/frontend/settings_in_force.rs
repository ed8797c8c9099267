//! The settings of this process, for the operator.

/// A setting, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInForce {
    /// The setting's environment variable, which serves as its name.
    pub variable: &'static str,
    /// The value as it was written; `None` if the setting has no value.
    pub value: Option<String>,
    /// The flag or the variable that gave the value; `None` for the default.
    pub origin: Option<String>,
}
