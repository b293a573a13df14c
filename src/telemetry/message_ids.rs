//! The ids by which the journal finds what to say about an event that somebody has to act on.
//!
//! `systemd/renewd.catalog` has the words for each; `journalctl -x` shows them below the entry. An id is for ever: it is
//! what people and programs filter by.

/// By the kind of event; only of those at level error.
pub const MESSAGE_IDS: [(&str, u128); 15] = [
    ("account.paused", 0xeb37_1a07_8d4a_4a08_9d30_dbf1_f1e0_a7a4),
    ("clock.skewed", 0x1825_17c7_d984_4f33_8a1e_96ae_8884_1891),
    ("config.refused", 0xd864_3b42_7574_4c8b_8568_8cf0_7d3f_1778),
    ("database.failed", 0xf196_1b4a_1408_4e19_baee_0efa_49cf_19f3),
    ("http.failed", 0x9791_04ed_7ab6_4a81_b159_6821_a343_22e0),
    ("instance.at_risk", 0x9201_8312_e7e9_4df6_82d3_b466_8b9f_87b4),
    ("order.placed", 0xfae0_dad1_310f_44e9_8c9e_2283_1f8b_3e83),
    ("order.refused", 0xe709_6443_f4f0_4ec3_9262_2dc8_d089_675c),
    ("order.unknown", 0x69ff_cd38_81d2_4d67_8f5f_109d_fe95_9d06),
    ("run.failed", 0x516f_5fbf_7b0b_4abc_8f12_8340_e7b6_5894),
    ("run.retry", 0x0472_296e_05ed_40b6_8749_d088_99f5_1840),
    ("run.waiting", 0x641b_3064_1ef4_4686_900c_08fe_80ff_bac1),
    ("schedule.missed", 0x124a_d579_edef_4a57_85bc_0e64_f0b0_6c9e),
    ("service.panicked", 0x6dfe_862e_f742_47f3_b071_80ed_1c19_136b),
    ("service.stopped", 0x2960_e446_829d_44c7_9758_8db9_7dfc_5517),
];

pub(super) fn of(event: &str) -> Option<u128> {
    MESSAGE_IDS.iter().find(|(kind, _)| *kind == event).map(|(_, id)| *id)
}
